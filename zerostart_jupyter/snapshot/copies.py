"""Copies of the kernel's sockets in processes that it forked.

A child that only forked (a worker of multiprocessing, of a DataLoader) has all descriptors of the
kernel. A socket is closed when its last copy is: as long as a child has one, the port stays taken,
and clients do not notice that the kernel let go of it. What the child has is reached through
pidfd_getfd(2) and shut down, which holds for all copies; a child never uses them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import socket
from collections.abc import Collection, Iterator

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.snapshot import procfs

_PIDFD_GETFD = 438  # the same number on every architecture


def held(places: Collection[int | str]) -> list[socket.socket]:
    """Our own handles of what descendants have bound or connected at these ports or paths.

    The caller closes them. Raises SnapshotError where a child does not let us.
    """
    found: list[socket.socket] = []
    try:
        for child in procfs.tree(os.getpid())[1:]:
            for each in sockets(child):
                name = address(each)
                if name in places:
                    found.append(each)
                else:
                    each.close()
    except BaseException:
        close(found)
        raise
    return found


def sockets(pid: int) -> Iterator[socket.socket]:
    """Handles of all sockets of a process, which the caller closes; raises SnapshotError."""
    numbers = [each.number for each in procfs.descriptors(pid) if each.target.startswith("socket:")]
    if not numbers:
        return
    try:
        process = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        for number in numbers:
            given = _given(process, number)
            if given is not None:
                yield socket.socket(fileno=given)
    finally:
        os.close(process)


def address(each: socket.socket) -> int | str | bytes | None:
    """The port or the path a socket is bound to."""
    try:
        name = each.getsockname()
    except OSError:
        return None
    if each.family in (socket.AF_INET, socket.AF_INET6):
        return int(name[1])
    return name if isinstance(name, str | bytes) else None


def shut(sockets: list[socket.socket]) -> None:
    """Have clients see that nobody is there, and others listen at these ports; closes them."""
    for each in sockets:
        try:
            each.shutdown(socket.SHUT_RDWR)
        except OSError:  # a connection whose other end has gone
            continue
    close(sockets)


def close(sockets: list[socket.socket]) -> None:
    """Give these handles up."""
    for each in sockets:
        each.close()


def _given(process: int, number: int) -> int | None:
    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    given = int(libc.syscall(_PIDFD_GETFD, process, number, 0))
    if given >= 0:
        return given
    reason = ctypes.get_errno()
    if reason in (errno.EBADF, errno.ESRCH):  # it closed it meanwhile, or ended
        return None
    raise SnapshotError(
        f"A process that the kernel forked keeps its sockets: {os.strerror(reason)}.",
        remedy="End that process and save again.",
    )
