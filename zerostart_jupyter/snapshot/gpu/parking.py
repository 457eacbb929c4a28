"""*Park* and *wake*: a kernel's GPU memory to the host and back, without a dump.

A parked kernel runs on; only its calls of CUDA would wait. So it is woken before its next cell
(`waking`), and a file beside its status says that it is parked, for the panel and for others.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.events import State as Progress
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.status import SCHEMA
from zerostart_jupyter.core.wording import seconds as in_seconds
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.gpu.kernel import Gpu
from zerostart_jupyter.snapshot.launch import status_directory

WRITER = "parked"  # its file lies beside those of core/status, and ends with its process

_awaited: list[Callable[[], object]] = []  # what this process does once it has its memory again


@dataclass(frozen=True, slots=True)
class Parked:
    """What `park()` returns: bytes NVML says are free again, and how long it took."""

    bytes: int
    seconds: float

    def __repr__(self) -> str:
        took = in_seconds(self.seconds)
        return (
            f"Parked: {size(self.bytes)} of GPU memory are free ({took}). The next cell wakes it."
        )


@dataclass(frozen=True, slots=True)
class Woken:
    """What `wake()` returns: bytes on the GPU again, and how long it took."""

    bytes: int
    seconds: float

    def __repr__(self) -> str:
        if not self.bytes:
            return "This kernel is awake."
        return f"Awake: {size(self.bytes)} are on the GPU again ({in_seconds(self.seconds)})."


@dataclass(frozen=True, slots=True)
class Where:
    """A kernel that can be parked: its process, and the directory of its status files."""

    process: Process
    directory: Path

    @classmethod
    def here(cls) -> Where:
        """This kernel; raises SnapshotRefused outside of one."""
        file = Path(LiveKernel.current().connection_file)
        return cls(Process.current(), status_directory(file))

    @property
    def file(self) -> Path:
        """The file that says it is parked."""
        return self.directory / f"{WRITER}.json"


def park(
    where: Where | None = None, *, settings: Settings | None = None, hub: Hub | None = None
) -> Parked:
    """Move a kernel's GPU memory to the host, by default this one's, and free the GPU.

    Raises SnapshotRefused where nothing is to be moved or it cannot be, GpuFailed after all was
    put back.
    """
    where, settings = where or Where.here(), settings or Settings.read()
    began = time.monotonic()
    with operation("park", "GPU memory", unit="steps", hub=hub) as work:
        gpu = Gpu.of(settings, where.process)
        if gpu is None:
            raise SnapshotRefused(
                "This kernel holds no GPU memory.", remedy="There is nothing to park."
            )
        gpu.demand_supported()
        gpu.demand_room("Parking")
        try:
            for step, act in (("locking", gpu.lock), ("moving", gpu.checkpoint)):
                work.check()
                work.update(step)
                act()
                work.update(step, state=Progress.DONE)
            note(where, gpu.freed)
        except BaseException:
            gpu.put_back()
            raise
    return Parked(gpu.freed, time.monotonic() - began)


def wake(
    where: Where | None = None, *, settings: Settings | None = None, hub: Hub | None = None
) -> Woken:
    """Move it back; one that is awake stays so. Raises GpuFailed, and then it is still parked."""
    where, settings = where or Where.here(), settings or Settings.read()
    began = time.monotonic()
    gpu = Gpu.of(settings, where.process)
    if gpu is None or not gpu.parked:
        _arrive(where)
        forget(where)
        return Woken(0, 0.0)
    with operation("wake", "GPU memory", unit="steps", hub=hub) as work:
        work.update("moving")
        regained = gpu.put_back()
        _arrive(where)
        work.update("moving", state=Progress.DONE)
    forget(where)
    return Woken(regained, time.monotonic() - began)


def is_parked(where: Where) -> bool:
    """Whether this very process was parked; cheap, as it is asked before each cell.

    One that somebody else has woken still is, as long as it has something to do about that.
    """
    if _awaited and where.process == Process.current():
        return True
    try:
        body = json.loads(where.file.read_text())
        return Process.from_json(body["process"]) == where.process
    except (OSError, ValueError, LookupError, TypeError):
        return False


def parked_bytes(file: Path) -> int | None:
    """What such a file says was freed; None if it is none."""
    try:
        return int(json.loads(file.read_text())["parked"]["bytes"])
    except (OSError, ValueError, LookupError, TypeError):
        return None


def note(where: Where, freed: int, then: Callable[[], object] | None = None) -> None:
    """Write that it is parked; raises OSError, as nobody would know of it otherwise.

    `then` is what this process does once it is woken.
    """
    _awaited[:] = [then] if then is not None else []
    body = {
        "schema": SCHEMA,
        "process": where.process.as_json(),
        "operations": [],
        "parked": {"bytes": freed, "since": time.time()},
    }
    where.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
    staging = where.file.with_name(f".{where.file.name}.{os.getpid()}.part")
    staging.touch(mode=0o600)
    staging.write_text(json.dumps(body))
    staging.replace(where.file)


def _arrive(where: Where) -> None:
    if where.process == Process.current():
        for each in list(_awaited):
            each()


def forget(where: Where) -> None:
    """It is awake."""
    if where.process == Process.current():
        _awaited.clear()
    with contextlib.suppress(OSError):
        where.file.unlink()
