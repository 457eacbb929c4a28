"""The GPU's part of a save; nothing at all in a kernel that uses none."""

from __future__ import annotations

import contextlib
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused, ZerostartError
from zerostart_jupyter.core.references import Held, Live, references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot.gpu import parking
from zerostart_jupyter.snapshot.gpu.kernel import Gpu
from zerostart_jupyter.snapshot.process import Save, State


class Moving:
    """GPU memory on its way out of a kernel and back in.

    Weights that lie in files go first: they are neither moved to the host nor part of the images.
    """

    def __init__(self, gpu: Gpu | None, held: Held | None = None, *, park: bool = False) -> None:
        self._gpu = gpu
        self._held = held
        self._park = park

    @classmethod
    def plan(cls, settings: Settings, *, park: bool = False) -> Moving:
        """What there is to move of this kernel; nothing is frozen yet.

        Raises SnapshotRefused where it cannot be moved, GpuFailed where the driver is silent.
        """
        gpu = Gpu.of(settings)
        if gpu is None:
            if park:
                raise SnapshotRefused(
                    "This kernel holds no GPU memory to park; nothing was saved.",
                    remedy="Save without --park.",
                )
            return cls(None)
        gpu.demand_supported()
        if gpu.parked:
            gpu.put_back()
        held = references().hold(_on_gpu)
        gpu.demand_room("Saving", less=held.bytes if held else 0)
        return cls(gpu, held, park=park)

    @property
    def cuda(self) -> bool:
        """Whether the driver will have something to do."""
        return self._gpu is not None

    def take(self, save: Save) -> None:
        """Go through the states of the GPU; each is undone with the rest of the save."""
        if self._gpu is None:
            return
        save.enter(State.GPU_LOCKED, self.put_back)
        if self._held is not None:
            self._held.let_go()
        self._gpu.lock()
        save.enter(State.GPU_CHECKPOINTED)
        self._gpu.checkpoint()
        self._gpu.demand_closed()

    def as_json(self) -> dict[str, Any]:
        """What the dumper is told; empty where no GPU is used."""
        if self._gpu is None:
            return {}
        files = [str(each) for each in self._held.files] if self._held else []
        return {**self._gpu.as_json(), "weights": files}

    def resume(self) -> None:
        """The dump is done: go on where we were, or stay parked."""
        if self._gpu is None:
            return
        if self._park:
            parking.note(parking.Where.here(), self._gpu.freed, self.arrive)
        else:
            self.put_back()

    def put_back(self) -> None:
        """Have everything on the GPU again, from whichever state; more than once does no harm.

        A kernel where that fails counts as parked, so that its next cell tries again.
        """
        if self._gpu is None:
            return
        here = parking.Where.here()
        try:
            self._gpu.put_back()
            self.arrive()
        except ZerostartError:
            with contextlib.suppress(OSError):
                parking.note(here, self._gpu.freed, self.arrive)
            raise
        parking.forget(here)

    def arrive(self) -> None:
        """Read the weights again, once the GPU is back; also in a kernel that was restored."""
        if self._held is not None:
            self._held.take_back()


def _on_gpu(live: Live) -> bool:
    return live.device != "cpu"
