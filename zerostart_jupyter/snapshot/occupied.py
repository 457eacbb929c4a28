"""What a restored kernel must find free: ports its programs listen at, locks they hold.

A kernel that was saved and still runs has them, and CRIU would only say that an address or a lock
is in use. Noted when a snapshot is written, and compared before a restore.
"""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.snapshot import procfs

Place = tuple[str, str, int, int]  # kind, address or name, and a port or a range of bytes

_KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
_LOCKS = ("FLOCK", "POSIX", "OFDLCK")
_ACCEPTS = 1 << 16  # __SO_ACCEPTCON, linux/net.h
_END = 1 << 63  # of a file, as a lock has it


def locks(pids: Iterable[int]) -> list[Place]:
    """The locks of files that these processes hold."""
    found: list[Place] = []
    for pid in pids:
        for each in procfs.descriptors(pid):
            for line in procfs.descriptor_info(pid, each.number):
                if line.startswith("lock:"):
                    found += _lock(line.partition(":")[2], each.target)
    return list(dict.fromkeys(found))


def taken(places: Iterable[Sequence[str | int]]) -> Iterator[str]:
    """Which of these somebody else has, in words."""
    held = _held_locks()
    for kind, name, first, last in places:
        assert isinstance(first, int)
        assert isinstance(last, int)
        if kind == "unix":
            if name in _listening():
                yield f"another program listens at {name}"
        elif kind in _KINDS:
            if _is_bound(str(kind), str(name), first):
                yield f"{str(kind).upper()} port {first} is in use, which its programs listen at"
        elif _is_locked(str(kind), str(name), first, last, held):
            yield f"{name} is locked by another program"


def _lock(line: str, path: str) -> Iterator[Place]:
    # "1: FLOCK  ADVISORY  WRITE 359 00:13:11691 0 EOF"
    fields = line.split()
    if len(fields) == 8 and fields[1] in _LOCKS and path.startswith("/"):
        kind = "flock" if fields[1] == "FLOCK" else "lock"
        yield f"{kind} {fields[3].lower()}", path, int(fields[6]), _end(fields[7])


def _end(text: str) -> int:
    return _END if text == "EOF" else int(text)


def _listening() -> set[str]:
    """Names without a path of unix sockets that somebody listens at, as /proc/net/unix has them."""
    try:
        lines = Path("/proc/net/unix").read_text(errors="surrogateescape").splitlines()[1:]
    except OSError:
        return set()
    described = (line.split(maxsplit=7) for line in lines)
    return {
        fields[7]
        for fields in described
        if len(fields) == 8 and int(fields[3], 16) & _ACCEPTS and fields[7].startswith("@")
    }


def _is_bound(kind: str, host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with contextlib.suppress(OSError), socket.socket(family, _KINDS[kind]) as probe:
        if family == socket.AF_INET6:
            probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as CRIU does
        try:
            probe.bind((host, port))
        except OSError:
            return True
    return False


def _held_locks() -> list[tuple[str, str, str, int, int]]:
    """What locks(5) lists: kind, read or write, file, first and last byte."""
    try:
        lines = Path("/proc/locks").read_text().splitlines()
    except OSError:
        return []
    found = []
    for fields in map(str.split, lines):
        if len(fields) == 8 and fields[1] in _LOCKS:
            kind = "flock" if fields[1] == "FLOCK" else "lock"
            found.append((kind, fields[3].lower(), fields[5], int(fields[6]), _end(fields[7])))
    return found


def _is_locked(
    wanted: str,
    path: str,
    first: int,
    last: int,
    held: Iterable[tuple[str, str, str, int, int]],
) -> bool:
    kind, mode = wanted.split()
    try:
        status = os.stat(path)
    except OSError:
        return False
    device = f"{os.major(status.st_dev):02x}:{os.minor(status.st_dev):02x}:{status.st_ino}"
    return any(
        kind == other
        and file == device
        and "write" in (mode, how)
        and first <= end
        and start <= last
        for other, how, file, start, end in held
    )
