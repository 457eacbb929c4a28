"""Listening sockets for a kernel that is not there yet, handed over once it is.

A client that finds nobody at a port tries again after 100 ms, and a kernel waits for its clients:
both are spared when the shepherd listens from the start and the kernel goes on with the very same
sockets. They travel over a unix socket (SCM_RIGHTS, unix(7)), which a kernel can reach from its
namespaces by path.
"""

from __future__ import annotations

import array
import contextlib
import os
import select
import shutil
import socket
import tempfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

_MANY = 8  # more than a kernel has


def begin(held: Iterable[socket.socket], connection: Mapping[str, Any]) -> list[socket.socket]:
    """Listen on those of the held ports that messages come to; returns these sockets."""
    if connection["transport"] != "tcp":
        return []
    wanted = {
        int(port)
        for name, port in connection.items()
        if name.endswith("_port") and name != "hb_port"
    }
    found = []
    for each in held:
        if each.getsockname()[1] in wanted - {0}:
            with contextlib.suppress(OSError):  # somebody was faster: the kernel will say so
                each.listen()
                each.setblocking(False)
                found.append(each)
    return found


class Offer:
    """Waits for the kernel to come for the sockets; `path` is where."""

    def __init__(self, sockets: Iterable[socket.socket]) -> None:
        self._sockets = list(sockets)
        self._folder = tempfile.mkdtemp(prefix="zerostart-")  # 0700: nobody else comes for them
        self.path = str(Path(self._folder) / "s")
        self._door = socket.socket(socket.AF_UNIX)
        self._door.bind(self.path)
        self._door.listen(1)

    def fileno(self) -> int:
        """For selectors: readable when the kernel is at the door."""
        return self._door.fileno()

    def wait(self, other: int) -> bool:
        """Hand the sockets over once the kernel comes; False if it says something first."""
        if self.fileno() not in select.select([self.fileno(), other], [], [])[0]:
            return False
        self.serve()
        return True

    def serve(self) -> None:
        """Hand the sockets over."""
        with self._door.accept()[0] as kernel, contextlib.suppress(OSError):
            socket.send_fds(kernel, [b"."], [each.fileno() for each in self._sockets])

    def close(self) -> None:
        """Nobody comes any more; a second call does nothing."""
        self._door.close()
        shutil.rmtree(self._folder, ignore_errors=True)


def take(path: str) -> dict[int, int]:
    """What is offered there: descriptors by port, which are the caller's from now on."""
    with socket.socket(socket.AF_UNIX) as door:
        door.connect(path)
        room = socket.CMSG_SPACE(_MANY * array.array("i").itemsize)
        _, control, _, _ = door.recvmsg(1, room, socket.MSG_CMSG_CLOEXEC)
    numbers = array.array("i")
    for _, kind, data in control:
        if kind == socket.SCM_RIGHTS:
            numbers.frombytes(data[: len(data) - len(data) % numbers.itemsize])
    found = {}
    for number in numbers:
        with socket.socket(fileno=os.dup(number)) as each:
            found[each.getsockname()[1]] = number
    return found
