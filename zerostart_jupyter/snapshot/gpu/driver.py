"""The contract of what checkpoints CUDA processes, and the two that fulfil it.

A process goes running → locked → checkpointed → locked → running; while it is locked its calls of
CUDA wait, and once it is checkpointed its GPU memory lies in its own host memory. See "CUDA
Checkpointing" in NVIDIA's CUDA Driver API reference.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from typing import Any, Protocol, TypeVar

from zerostart_jupyter.core.errors import GpuFailed

T = TypeVar("T")

_REMEDY = (
    "Managed memory, CUDA IPC, MPS and MIG cannot be checkpointed; "
    "`zerostart doctor` says what works here."
)
_GRACE = 5.0  # seconds for the program to start, beside what the driver takes


class State(StrEnum):
    """Where the driver says a process is."""

    RUNNING = "running"
    LOCKED = "locked"
    CHECKPOINTED = "checkpointed"
    FAILED = "failed"


class Driver(Protocol):
    """Moves one CUDA process a step; every method raises GpuFailed with the driver's own words.

    `pid` is the process's id in our namespace. A process that never called CUDA has no state.
    """

    name: str

    def state(self, pid: int) -> State:
        """Where the process is; no step is taken."""

    def lock(self, pid: int, seconds: float) -> None:
        """Have it finish what it runs on the GPU, and hold back its further calls of CUDA."""

    def checkpoint(self, pid: int) -> None:
        """Move a locked process's GPU memory to its host memory, and free the GPU."""

    def restore(self, pid: int, mapping: Mapping[str, str] | None = None) -> None:
        """Move it back, `mapping` the UUID of each GPU to another's; it stays locked."""

    def unlock(self, pid: int) -> None:
        """Let a locked process call CUDA again."""


class CudaCore:
    """NVIDIA's cuda.core: each call goes to libcuda, which is initialised once and stays so."""

    def __init__(self) -> None:
        from cuda.core import __version__, checkpoint

        self._process: Any = checkpoint.Process
        self.name = f"cuda.core {__version__}"

    def state(self, pid: int) -> State:
        """See Driver."""
        return State(str(self._call(pid, "state", lambda process: process.state)))

    def lock(self, pid: int, seconds: float) -> None:
        """See Driver."""
        self._call(pid, "lock", lambda process: process.lock(timeout_ms=int(seconds * 1000)))

    def checkpoint(self, pid: int) -> None:
        """See Driver."""
        self._call(pid, "checkpoint", lambda process: process.checkpoint())

    def restore(self, pid: int, mapping: Mapping[str, str] | None = None) -> None:
        """See Driver."""
        bare = {_bare(old): _bare(new) for old, new in (mapping or {}).items()}
        self._call(pid, "restore", lambda process: process.restore(gpu_mapping=bare or None))

    def unlock(self, pid: int) -> None:
        """See Driver."""
        self._call(pid, "unlock", lambda process: process.unlock())

    def _call(self, pid: int, step: str, act: Callable[[Any], T]) -> T:
        try:
            return act(self._process(pid))
        except Exception as error:  # it has several kinds, with no base in common
            raise failed(step, pid, error) from error


class CudaCheckpoint:
    """NVIDIA's program cuda-checkpoint: each call initialises libcuda anew, which takes seconds."""

    def __init__(self, program: str, timeout: float) -> None:
        self._program = program
        self._timeout = timeout
        self.name = program

    def state(self, pid: int) -> State:
        """See Driver."""
        said = self._run("state", pid, "--get-state")
        try:
            return State(said.strip().lower())
        except ValueError as error:
            raise failed("state", pid, f"it said {said!r}") from error

    def lock(self, pid: int, seconds: float) -> None:
        """See Driver."""
        self._run("lock", pid, "--action", "lock", "--timeout", str(int(seconds * 1000)))

    def checkpoint(self, pid: int) -> None:
        """See Driver."""
        self._run("checkpoint", pid, "--action", "checkpoint")

    def restore(self, pid: int, mapping: Mapping[str, str] | None = None) -> None:
        """See Driver."""
        pairs = ",".join(f"{old}={new}" for old, new in (mapping or {}).items())
        extra = ["--device-map", pairs] if pairs else []
        self._run("restore", pid, "--action", "restore", *extra)

    def unlock(self, pid: int) -> None:
        """See Driver."""
        self._run("unlock", pid, "--action", "unlock")

    def _run(self, step: str, pid: int, *options: str) -> str:
        command: Sequence[str] = (self._program, *options, "--pid", str(pid))
        try:
            ran = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                timeout=self._timeout + _GRACE,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired) as error:
            raise failed(step, pid, error) from error
        if ran.returncode:
            raise failed(step, pid, ran.stderr.strip() or ran.stdout.strip() or "no reason given")
        return ran.stdout


def failed(step: str, pid: int, reason: object) -> GpuFailed:
    """The error of a step the driver did not take, with its words."""
    words = str(reason).strip().splitlines() or [type(reason).__name__]
    return GpuFailed(
        f"The CUDA driver's {step} of process {pid} failed: {words[0].rstrip('.')}.",
        remedy=_REMEDY,
    )


def _bare(uuid: str) -> str:
    """A UUID as CUDA writes it; NVML puts `GPU-` before it."""
    return uuid.removeprefix("GPU-")
