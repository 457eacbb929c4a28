"""Keeps a kernel's process id while the kernel itself lives on in a child: run as a program.

Whoever started the kernel signals, waits for and ends this process. It is the former kernel after
an undo, so it must be small: the standard library alone, and nothing of this package.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import select
import signal
import sys
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36
_FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_TICK = 1.0  # seconds between two looks whether our parent is still there


class Keeper:
    """Stands for one kernel after another."""

    def __init__(self, kernel: int, orders: int) -> None:
        self._kernel = kernel
        self._orders = orders
        self._told = b""
        parent = os.getppid()
        # Set by jupyter_client's launcher; a kernel started by hand has no such parent.
        self._parent = parent if os.environ.get("JPY_PARENT_PID") == str(parent) else None
        self._signals: list[int] = []
        self._awake, waker = os.pipe()
        for end in (self._awake, waker, orders):
            os.set_blocking(end, False)
        for number in _FORWARDED:
            signal.signal(number, lambda number, _: self._signals.append(number))
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(waker, warn_on_full_buffer=False)
        ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)

    def watch(self) -> int:
        """Pass signals on until the kernel has ended; returns its wait status."""
        while True:
            # An order comes before the end of the kernel that gave it.
            ended = self._collect()
            self._obey()
            if self._kernel in ended:
                return ended[self._kernel]
            if self._parent is not None and os.getppid() != self._parent:
                return signal.SIGKILL
            while self._signals:
                self._forward(self._signals.pop(0))
            select.select([self._awake, self._orders], [], [], _TICK)
            with contextlib.suppress(BlockingIOError):
                os.read(self._awake, 4096)

    def end_all(self) -> None:
        """End whatever is left below us."""
        children = Path(f"/proc/self/task/{os.getpid()}/children")
        while left := children.read_text().split():
            for pid in left:
                with contextlib.suppress(OSError):
                    os.kill(int(pid), signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.wait()

    def _obey(self) -> None:
        """Turn to the kernel whose process id was sent last."""
        with contextlib.suppress(BlockingIOError):
            self._told += os.read(self._orders, 4096)
        *lines, self._told = self._told.split(b"\n")
        if lines:
            self._kernel = int(lines[-1])

    def _forward(self, number: int) -> None:
        # To its group: an interrupt reaches what a cell has started as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._kernel, number)

    def _collect(self) -> dict[int, int]:
        ended = {}
        with contextlib.suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    break
                ended[pid] = status
        return ended


def main() -> int:
    """Stay until the kernel has ended, and end as it did."""
    keeper = Keeper(int(sys.argv[1]), int(sys.argv[2]))
    status = keeper.watch()
    keeper.end_all()
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


if __name__ == "__main__":
    raise SystemExit(main())
