"""CRIU's list of open and mapped files (`files.img`): read, and loosened where a file may grow.

CRIU refuses to restore when a regular file's size differs from the one at the dump. For a log or
a database that other processes write to that is no reason: those lose their recorded size here,
and what the kernel inherited from its launcher (a server's log, say) becomes /dev/null.

Field numbers are those of CRIU's images/fdinfo.proto and images/regfile.proto.
"""

from __future__ import annotations

import os
import socket
import stat
import struct
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.snapshot.messages import (
    Field,
    block,
    corrupt,
    number,
    numbers,
    pack,
    parse,
    read,
    write,
)

_MAGIC = 0x56303138  # FILES_MAGIC
_TYPE, _ID, _REGULAR, _INET, _UNIX = 1, 2, 3, 4, 16  # file_entry; the type of a regular file is 1
_SOCKET_FAMILY, _SOCKET_TYPE, _STATE, _PORT, _ADDRESS = 3, 4, 6, 7, 11  # inet_sk_entry
_LISTENS = 10  # TCP_LISTEN
_UNIX_STATE, _UNIX_NAME = 4, 11  # unix_sk_entry
_REMAPS = 0x59133954  # REMAP_FPATH_MAGIC: files that are carried in the image
_ORIGINAL, _REMAPPED, _REMAP_TYPE = 1, 2, 3  # remap_file_path_entry: which file, to what, and how
_GHOST = 1  # carried whole, as a file of no name
_FILE, _FLAGS, _POSITION, _OWNER, _NAME, _SIZE, _MODE = 1, 2, 3, 5, 6, 8, 10  # reg_file_entry
_BUILD_ID = 11
_OWNER_FIELDS = range(1, 6)  # fown_entry: uid, euid, signum, pid_type, pid


@dataclass(frozen=True, slots=True)
class ImageFile:
    """A file by its path, as the image names it. `size` in bytes, None where none is checked.

    `library` says that it is an ELF file, whose build-id CRIU checks as well.
    """

    path: str
    size: int | None
    writable: bool
    library: bool


def files(directory: Path) -> list[ImageFile]:
    """The files a restore will open; raises SnapshotCorrupt if the image cannot be read.

    Those that were deleted, or replaced by others of their names, are not among them.
    """
    carried = {remap.get(_ORIGINAL) for remap in _remaps(directory)}
    entries = [entry for entry in _entries(directory) if numbers(entry).get(_ID) not in carried]
    return [_describe(fields) for fields in map(_regular, entries) if fields]


def ghosts(directory: Path) -> list[Path]:
    """What deleted files are called for a moment while they are restored, as CRIU has it."""
    remaps = [each for each in _remaps(directory) if each.get(_REMAP_TYPE) == _GHOST]
    if not remaps:
        return []
    known = by_id(directory)
    found = []
    for remap in remaps:
        file = known.get(remap.get(_ORIGINAL, 0))
        if file is not None:
            found.append(Path(f"{file.path}.cr.{remap.get(_REMAPPED, 0):x}.ghost"))
    return found


def bound(directory: Path) -> list[tuple[str, str, int]]:
    """Where programs listen: "tcp" or "udp" with address and port, "unix" with a name.

    A name is one that is no path, as /proc/net/unix has it. A path is no obstacle: who is restored
    takes it over.
    """
    found = []
    for entry in _entries(directory):
        for kind, _, value in entry:
            if kind in (_INET, _UNIX) and isinstance(value, bytes):
                fields = list(parse(value))
                found += _port(fields) if kind == _INET else _name(fields)
    return found


def _port(fields: Sequence[Field]) -> list[tuple[str, str, int]]:
    known = numbers(fields)
    udp = known.get(_SOCKET_TYPE) == socket.SOCK_DGRAM
    port = known.get(_PORT, 0)
    if not port or not (udp or known.get(_STATE) == _LISTENS):
        return []
    words = [value for each, _, value in fields if each == _ADDRESS]
    return [("udp" if udp else "tcp", _host(known.get(_SOCKET_FAMILY), words), port)]


def _name(fields: Sequence[Field]) -> list[tuple[str, str, int]]:
    name = next((value for each, _, value in fields if each == _UNIX_NAME), b"")
    listens = numbers(fields).get(_UNIX_STATE) == _LISTENS
    if not isinstance(name, bytes) or name[:1] != b"\0" or not listens:
        return []
    return [("unix", os.fsdecode(name.replace(b"\0", b"@")), 0)]


def _host(family: int | None, words: Sequence[int | bytes]) -> str:
    packed = struct.pack(f"={len(words)}I", *words)
    try:
        known = socket.AF_INET6 if family == socket.AF_INET6 else socket.AF_INET
        return socket.inet_ntop(known, packed)
    except ValueError as error:
        raise corrupt("a socket's entry is malformed") from error


def by_id(directory: Path) -> dict[int, ImageFile]:
    """Regular files by the ids that mappings know them by."""
    found = {}
    for entry in _entries(directory):
        fields = _regular(entry)
        if fields:
            found[numbers(entry).get(_ID, 0)] = _describe(fields)
    return found


def loosen(directory: Path, inherited: Sequence[str]) -> None:
    """Drop the size of files open for writing; turn `inherited` paths into /dev/null."""
    given_up = {path.encode() for path in inherited}

    def change(fields: list[Field]) -> list[Field]:
        if any(each == _NAME and value in given_up for each, _, value in fields):
            kept = [field for field in fields if field[0] not in (_SIZE, _MODE, _BUILD_ID)]
            return [_as_null(field) for field in kept]
        if _describe(fields).writable:
            return [field for field in fields if field[0] != _SIZE]
        return fields

    changed = [_with(_REGULAR, entry, change) for entry in _entries(directory)]
    write(directory / "files.img", _MAGIC, changed)


def unbind(directory: Path, ports: Collection[int]) -> None:
    """Have no TCP or UDP socket be bound to these ports: children have copies of the kernel's.

    Whoever is the kernel there by the time of the restore listens at its own, and at these perhaps
    somebody else.
    """

    def change(fields: list[Field]) -> list[Field]:
        bound = any(each == _PORT and value in ports for each, _, value in fields)
        return [number(_PORT, 0) if bound and field[0] == _PORT else field for field in fields]

    changed = [_with(_INET, entry, change) for entry in _entries(directory)]
    write(directory / "files.img", _MAGIC, changed)


def add(directory: Path, sizes: Mapping[Path, int], mode: int) -> dict[Path, int]:
    """List more files, to be opened for reading; returns the ids CRIU will know them by."""
    entries = _entries(directory)
    first = 1 + max((numbers(entry).get(_ID, 0) for entry in entries), default=0)
    ids = {path: first + place for place, path in enumerate(sizes)}
    added = [_entry(path, ids[path], size, mode) for path, size in sizes.items()]
    write(directory / "files.img", _MAGIC, [*entries, *added])
    return ids


def move(directory: Path, places: Mapping[str, str]) -> None:
    """Have files be looked for elsewhere: old path -> new path."""
    moved = {os.fsencode(old): os.fsencode(new) for old, new in places.items()}

    def change(fields: list[Field]) -> list[Field]:
        return [
            block(_NAME, moved[value])
            if each == _NAME and isinstance(value, bytes) and value in moved
            else (each, kind, value)
            for each, kind, value in fields
        ]

    changed = [_with(_REGULAR, entry, change) for entry in _entries(directory)]
    write(directory / "files.img", _MAGIC, changed)


def _entry(path: Path, identifier: int, size: int, mode: int) -> list[Field]:
    regular = [
        number(_FILE, identifier),
        number(_FLAGS, os.O_RDONLY),
        number(_POSITION, 0),
        block(_OWNER, pack(number(each, 0) for each in _OWNER_FIELDS)),
        block(_NAME, os.fsencode(path)),
        number(_SIZE, size),
        number(_MODE, stat.S_IFREG | mode),
    ]
    return [number(_TYPE, 1), number(_ID, identifier), block(_REGULAR, pack(regular))]


def _as_null(field: Field) -> Field:
    if field[0] == _NAME:
        return block(_NAME, os.devnull.encode())
    return number(_POSITION, 0) if field[0] == _POSITION else field


def _describe(fields: Sequence[Field]) -> ImageFile:
    known = {each: value for each, _, value in fields}
    name, size, flags = known.get(_NAME, b""), known.get(_SIZE), known.get(_FLAGS, 0)
    if not isinstance(name, bytes) or isinstance(size, bytes) or isinstance(flags, bytes):
        raise corrupt("a file's entry is malformed")
    writable = flags & os.O_ACCMODE != os.O_RDONLY
    return ImageFile(name.decode(errors="surrogateescape"), size, writable, _BUILD_ID in known)


def _remaps(directory: Path) -> list[dict[int, int]]:
    path = directory / "remap-fpath.img"
    return [numbers(entry) for entry in read(path, _REMAPS)] if path.exists() else []


def _entries(directory: Path) -> list[list[Field]]:
    return list(read(directory / "files.img", _MAGIC))


def _regular(entry: Sequence[Field]) -> list[Field] | None:
    for each, _, value in entry:
        if each == _REGULAR and isinstance(value, bytes):
            return list(parse(value))
    return None


def _with(
    kind: int, entry: Sequence[Field], change: Callable[[list[Field]], list[Field]]
) -> list[Field]:
    return [
        block(kind, pack(change(list(parse(value)))))
        if each == kind and isinstance(value, bytes)
        else (each, form, value)
        for each, form, value in entry
    ]
