"""The outputs of a kernel that starts in a mount namespace of its own.

CRIU finds a file by its mount, and one that was opened outside lies on a mount that is not inside.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import stat

_BLOCK = 1 << 16


class Forward:
    """A pipe whose other end the kernel has, and the file outside that it leads to."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._reading, self.writing = os.pipe()
        os.set_blocking(self._reading, False)

    def fileno(self) -> int:
        """For selectors."""
        return self._reading

    def pass_on(self) -> bool:
        """Write what there is; False when there will be nothing more, or the target is full."""
        try:
            while block := os.read(self._reading, _BLOCK):
                rest = memoryview(block)
                while rest:
                    rest = rest[os.write(self._target, rest) :]
        except BlockingIOError:
            return True
        except OSError:
            return False
        return False


def inside() -> tuple[dict[int, int], list[Forward]]:
    """What is to be on 0, 1 and 2 instead, by these numbers, and what has to be passed on.

    A device or a file that is appended to is opened again by its path. Any other file has a
    position that the kernel shares with whoever gave it, or no path that this user may open.
    """
    found, forwards = {}, []
    for number in range(3):
        target = os.readlink(f"/proc/self/fd/{number}")
        if not target.startswith("/"):  # pipes and sockets lie on no mount
            continue
        again = _again(number, target)
        if again is None and number == 0:
            again = os.open(os.devnull, os.O_RDONLY)
        elif again is None:
            forwards.append(Forward(number))
            again = forwards[-1].writing
        found[number] = again
    return found, forwards


def _again(number: int, path: str) -> int | None:
    flags = fcntl.fcntl(number, fcntl.F_GETFL)
    if number > 0 and stat.S_ISREG(os.fstat(number).st_mode) and not flags & os.O_APPEND:
        return None
    with contextlib.suppress(OSError):
        opened = os.open(path, flags | os.O_NOCTTY)
        if os.path.sameopenfile(opened, number):
            return opened
        os.close(opened)
    return None
