"""Where a kernel and process 1 of its namespace meet for a moment: an abstract unix socket.

A kernel that was started in its namespace says there which pipes are its channel; one that was
restored fetches its outputs, which it may not open through /proc where process 1 has capabilities
and it has none. Nothing of it stays open: a kernel with a connection could not be dumped.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import socket
import struct
import time
from collections.abc import Iterator

from zerostart_jupyter.snapshot import wire

VARIABLE = "ZEROSTART_DOOR"
_CREDENTIALS = struct.Struct("=iII")  # struct ucred: pid, uid, gid
_OUTPUTS = ("stdin", "stdout", "stderr")
_PATIENCE = 5.0  # seconds for the other side, which is there already


class Door:
    """Process 1's side; `name` is where its kernel finds it."""

    def __init__(self) -> None:
        self.name = f"zerostart-{secrets.token_hex(16)}"
        self._socket = socket.socket(socket.AF_UNIX)
        self._socket.bind(f"\0{self.name}")
        self._socket.listen(8)

    def fileno(self) -> int:
        """For selectors: readable when somebody is at the door."""
        return self._socket.fileno()

    def close(self) -> None:
        """Nobody comes any more."""
        self._socket.close()

    def serve(self, kernel: int) -> wire.Message | None:
        """Let the kernel of this process id in; what it says of its channel, if it does."""
        visitor, _ = self._socket.accept()
        with visitor, contextlib.suppress(OSError, EOFError, ValueError, KeyError):
            visitor.settimeout(_PATIENCE)
            if _peer(visitor) != (kernel, os.geteuid()):
                return None
            asked = _heard(visitor)
            if asked["kind"] == "outputs":
                socket.send_fds(visitor, [b"."], range(len(_OUTPUTS)))
                return None
            visitor.sendall(b".")
            return asked
        return None


def introduce(name: str, channel: dict[str, int]) -> bool:
    """Tell process 1 our channel; False if that is not our namespace's, or we not its kernel."""
    with contextlib.suppress(OSError), _visit(name) as door:
        _say(door, {"kind": "channel", **channel})
        return bool(door.recv(1) == b".")
    return False


def outputs(name: str) -> dict[str, int]:
    """The outputs of process 1, as descriptors of ours; empty if it does not give them."""
    with contextlib.suppress(OSError), _visit(name) as door:
        _say(door, {"kind": "outputs"})
        _, numbers, _, _ = socket.recv_fds(door, 1, len(_OUTPUTS))
        for number in numbers:
            os.set_inheritable(number, False)
        return dict(zip(_OUTPUTS, numbers, strict=False))
    return {}


@contextlib.contextmanager
def _visit(name: str) -> Iterator[socket.socket]:
    with socket.socket(socket.AF_UNIX) as door:
        door.settimeout(_PATIENCE)
        door.connect(f"\0{name}")
        if _peer(door) != (1, os.geteuid()):
            raise ConnectionRefusedError(name)
        yield door


def _peer(connection: socket.socket) -> tuple[int, int]:
    """The process id, as our namespace counts, and the user of who connected or listens."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    pid, user, _ = _CREDENTIALS.unpack(raw)
    return pid, user


def _say(door: socket.socket, message: wire.Message) -> None:
    wire.send(door.fileno(), message)
    door.shutdown(socket.SHUT_WR)


def _heard(visitor: socket.socket) -> wire.Message:
    reader = wire.Reader(visitor.fileno())
    return reader.wait(check=wire.until(time.monotonic() + _PATIENCE))
