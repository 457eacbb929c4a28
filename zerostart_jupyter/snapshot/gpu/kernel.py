"""The GPU memory of this kernel, as its own save and its parking see it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Any

from zerostart_jupyter.core.errors import GpuFailed, SnapshotRefused
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import procfs
from zerostart_jupyter.snapshot.gpu import devices, finding, limits, steps
from zerostart_jupyter.snapshot.gpu.asking import Helper
from zerostart_jupyter.snapshot.gpu.devices import Machine
from zerostart_jupyter.snapshot.gpu.driver import State


class Gpu:
    """What a kernel's processes hold; `bytes` as NVML says, of all processes where it must."""

    def __init__(self, helper: Helper, looked: Mapping[str, Any]) -> None:
        self._helper = helper
        self._process = helper.process
        self.driver = str(looked["driver"])
        self.machine = Machine.from_json(looked["machine"])
        self.parked = any(state != State.RUNNING for state in looked["states"])
        self.bytes = int(looked["held"]) or self.machine.used
        self.freed = 0

    @classmethod
    def of(cls, settings: Settings, process: Process | None = None) -> Gpu | None:
        """That of a kernel, by default this one; None if no process of it uses a GPU.

        Raises SnapshotRefused where one does and nobody may ask the driver, GpuFailed where that
        does not answer.
        """
        process = process or Process.current()
        if process.near and not steps.suspects(process.pid):
            return None
        conditions = [finding.capability(), limits.permission()]
        if process.near and not all(conditions):
            if any(map(steps.holds_gpu, procfs.tree(process.pid))):
                limits.demand(conditions)
            return None
        looked = Helper(settings, process).ask("look")
        if not looked["states"]:
            return None
        return cls(Helper(settings, process), looked)

    def demand_supported(self) -> None:
        """Raise SnapshotRefused with the first reason why the memory cannot be moved."""
        limits.demand(limits.of_machine(self.machine))
        if self._process.near:
            limits.demand(limits.of_process(self._process.pid, self.machine))

    def demand_room(self, what: str, *, less: int = 0) -> None:
        """Raise SnapshotRefused unless the host can take what the GPU holds, `less` some of it."""
        limits.demand_room(max(0, self.bytes - less), what)

    def lock(self) -> None:
        """Let what runs on the GPU finish, and hold back what follows; raises GpuFailed."""
        self._helper.ask("lock")

    def checkpoint(self) -> None:
        """Move the memory to the host; `freed` is what NVML then says. Raises GpuFailed.

        Raises SnapshotRefused where a device is still open afterwards: that is not CUDA's doing.
        """
        done = self._helper.ask("checkpoint")
        machine, before = (Machine.from_json(done[key]) for key in ("machine", "before"))
        self.freed = max(0, before.used - machine.used)

    def demand_closed(self, pid: int | None = None) -> None:
        """Raise SnapshotRefused where a process still holds a device, as NVML does while open."""
        for each in procfs.tree(pid or os.getpid()):
            if steps.holds_gpu(each):
                raise SnapshotRefused(
                    f"Process {each} ({procfs.command(each)}) holds an NVIDIA device that is not "
                    "CUDA's, NVML's most likely.",
                    remedy="Call pynvml.nvmlShutdown() there, and save again.",
                )

    def put_back(self, saved: Machine | None = None) -> int:
        """Bring it back from wherever it is; returns the bytes the GPUs regained.

        `saved` are the GPUs it came from, where those here may be others. Raises GpuFailed.
        """
        about = None if saved is None else saved.as_json()
        # It is right from every state, and what follows a helper's end may still reach that one.
        done = self._helper.ask("put_back", tries=3, saved=about)
        machine, before = (Machine.from_json(done[key]) for key in ("machine", "before"))
        return max(0, machine.used - before.used)

    def as_json(self) -> dict[str, Any]:
        """What a manifest keeps of it: bytes, GPUs, and where the helper finds its modules."""
        path = list(self._helper.path)
        return {"bytes": self.freed, "machine": self.machine.as_json(), "path": path}


def bring_back(about: Mapping[str, Any], process: Process, settings: Settings) -> None:
    """Have a restored kernel's memory on the GPUs that are here; raises GpuFailed."""
    Helper(settings, process, about["path"]).ask("put_back", saved=about["machine"])


def restorable(about: Mapping[str, Any]) -> list[str]:
    """Why a snapshot's GPU memory could not come back here, in words; empty if it can."""
    conditions = [finding.capability(about["path"]), limits.permission()]
    wrong = [each.reason.rstrip(".") for each in conditions if not each]
    try:
        here = devices.read()
    except GpuFailed as error:
        return [f"it holds GPU memory, and {_lowered(error.message.rstrip('.'))}"]
    return [*devices.differences(Machine.from_json(about["machine"]), here), *wrong]


def _lowered(text: str) -> str:
    return text[:1].lower() + text[1:]
