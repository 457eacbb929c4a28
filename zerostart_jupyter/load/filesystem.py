"""Which file system a file lies on, and whether a network is in between."""

from __future__ import annotations

import ctypes
import os
from dataclasses import dataclass

_ROOM = 256  # bytes; struct statfs has 120 on 64-bit Linux
_FSID = 56  # offset of f_fsid in it, after seven 64-bit fields

# f_type of statfs(2): those whose pages come over a network, one fault at a time. FUSE is among
# them: what is behind it is mostly a bucket, and a fault goes through another process anyhow.
_NETWORK = {
    0x6969: "nfs",
    0x517B: "smb",
    0xFF534D42: "cifs",
    0xFE534D42: "smb2",
    0x65735546: "fuse",
    0x0BD00BD0: "lustre",
    0x00C36400: "ceph",
    0x47504653: "gpfs",
    0x01021997: "9p",
    0x5346414F: "afs",
    0x6B414653: "afs",
    0x73757245: "coda",
    0x19830326: "beegfs",
    0xAAD7AAEA: "panfs",
    0x20030528: "orangefs",
    0x786F4256: "vboxsf",
}
_MEMORY = {0x01021994: "tmpfs", 0x858458F6: "ramfs", 0x958458F6: "hugetlbfs"}

_libc = ctypes.CDLL(None, use_errno=True)
_libc.fstatfs.argtypes = (ctypes.c_int, ctypes.c_void_p)


@dataclass(frozen=True, slots=True)
class FileSystem:
    """`name` is its type where it matters here, else the type's number in hex.

    `key` tells it from others on this machine, also after a restart where the file system has an
    id of its own.
    """

    name: str
    key: str
    network: bool
    memory: bool


def of(descriptor: int) -> FileSystem:
    """The file system of an open file. Raises OSError."""
    room = ctypes.create_string_buffer(_ROOM)
    if _libc.fstatfs(descriptor, room) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
    kind = int.from_bytes(room.raw[:8], "little") & 0xFFFFFFFF
    number = int.from_bytes(room.raw[_FSID : _FSID + 8], "little")
    name = _NETWORK.get(kind) or _MEMORY.get(kind) or f"{kind:x}"
    own = f"{number:x}" if number else f"dev{os.fstat(descriptor).st_dev:x}"
    return FileSystem(name, f"{name}-{own}", kind in _NETWORK, kind in _MEMORY)


def of_path(path: str | os.PathLike[str]) -> FileSystem:
    """The file system of a file or directory. Raises OSError."""
    descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    try:
        return of(descriptor)
    finally:
        os.close(descriptor)
