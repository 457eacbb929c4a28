"""The kernel's side of the helper that dumps it: starts it, gives it its order, watches over it."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot.helper import Helper
from zerostart_jupyter.snapshot.launch import command
from zerostart_jupyter.snapshot.wire import Reader, revive, send, until

PATIENCE = 30.0  # seconds for the helper to start
_GRACE = 10.0  # seconds for it to end CRIU and itself
_STEP = 0.01


@dataclass(frozen=True, slots=True)
class Order:
    """What the helper is told. `status` is the directory for its status file."""

    id: str
    name: str
    operation: str
    criu: list[str]
    criu_version: str
    cache: str
    timeout: float
    replace: bool
    notebook: str | None
    parent: str | None
    kernel_seconds: float
    reason: str
    kernelspec: str | None
    encrypted: bool
    environment: str
    map_bytes: int
    status: str


class Dumper:
    """A process outside the kernel's tree: what is dumped cannot hold who dumps it.

    It is forked twice, so that its parent is whoever collects orphans; for a restored kernel that
    is pid 1 of its namespace, and CRIU runs inside that namespace.
    """

    def __init__(self) -> None:
        self._helper: Helper | None = None
        self._process: Process | None = None
        self._cancelled = False
        self._cache: Path | None = None

    def start(self, order: Order, channel: dict[str, int], inherited: list[int]) -> None:
        """Start it and wait until it is ready to dump; raises what kept it from that."""
        self._cache = Path(order.cache)
        helper = self._helper = Helper()
        body: dict[str, Any] = {"pid": os.getpid(), "channel": channel, "inherited": inherited}
        try:
            send(helper.to, asdict(order) | body)
            answer = Reader(helper.of).wait(check=until(time.monotonic() + PATIENCE))
        except (EOFError, BrokenPipeError, TimeoutError) as error:
            raise SnapshotError(
                "The helper that writes snapshots did not start.",
                remedy=f"See what `{' '.join(command('dump'))} </dev/null` says in a terminal.",
            ) from error
        if answer["kind"] == "failed":
            raise revive(answer)
        self._process = Process.from_json(answer["process"])

    def go(self, connection: dict[str, Any], gpu: dict[str, Any] | None = None) -> None:
        """Let it dump; `gpu` is what was taken out of one.

        Our ends of its pipes go first: they must not be in the images. Raises SnapshotError if it
        is gone.
        """
        assert self._helper is not None
        order = {"kind": "go", "connection": connection, "gpu": gpu or {}}
        try:
            send(self._helper.to, order)
        except BrokenPipeError as error:
            raise gone() from error
        self._let_go()

    def alive(self) -> bool:
        """Whether it still runs."""
        return self._process is not None and self._process.alive()

    def cancel(self) -> None:
        """Ask it to stop; it tells the kernel, which then goes on."""
        self._cancelled = True
        self.obey()

    def obey(self) -> None:
        """Pass on a wish to stop that came before there was anybody to pass it on to."""
        # In a restored kernel its pid would be somebody else's.
        if self._cancelled and self._process is not None and self._process.near and self.alive():
            os.kill(self._process.pid, signal.SIGTERM)
            self._cancelled = False

    def stop(self) -> None:
        """End it, however far it is, and remove what it left behind."""
        self._let_go()
        process = self._process
        if process is not None and process.near:
            self._end(process)
            if self._cache is not None:
                Store(self._cache).sweep()

    def _end(self, process: Process) -> None:
        for number, patience in ((signal.SIGTERM, _GRACE), (signal.SIGKILL, _GRACE)):
            deadline = time.monotonic() + patience
            with contextlib.suppress(ProcessLookupError):
                if process.alive():
                    os.kill(process.pid, number)
            while process.alive():
                if time.monotonic() > deadline:
                    break
                time.sleep(_STEP)
            else:
                return

    def _let_go(self) -> None:
        if self._helper is not None:
            self._helper.let_go()


def gone() -> SnapshotError:
    """The error for a helper that was killed."""
    return SnapshotError(
        "The helper that wrote the snapshot ended before it was done.",
        remedy="The kernel is as it was; save again.",
    )
