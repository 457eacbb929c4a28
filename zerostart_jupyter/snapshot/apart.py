"""A process apart, in which a kernel will be restored: forked before it is known which.

Whoever forks has as much to import as the process apart has, and both do it at the same time.
"""

from __future__ import annotations

import contextlib
import importlib
import os
import signal
import socket
from dataclasses import dataclass

from zerostart_jupyter.snapshot import wire

_PROGRAM = "zerostart_jupyter.snapshot.namespace"


@dataclass(frozen=True, slots=True)
class Apart:
    """`outer` is our child that waits for the namespace; `reader` the way to process 1 of it."""

    outer: int
    reader: wire.Reader

    def end(self) -> None:
        """It is not needed; it ends when it has nobody to hear from."""
        os.close(self.reader.descriptor)
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.outer, 0)


def fork(*, alone: bool = False) -> Apart:
    """Start one; it waits for its order.

    `alone` says that there is no other thread. One could be in the midst of an import, which in
    the process apart never ends: with others all is imported first.
    """
    if not alone:
        importlib.import_module(_PROGRAM)
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    outer = os.fork()
    if outer == 0:
        try:
            ours.close()
            signal.set_wakeup_fd(-1)
            importlib.import_module(_PROGRAM).enter(theirs.detach(), parent)
        finally:
            os._exit(1)
    theirs.close()
    return Apart(outer, wire.Reader(ours.detach()))
