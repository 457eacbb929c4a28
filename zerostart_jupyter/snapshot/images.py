"""CRIU's list of open and mapped files (`files.img`): read, and loosened where a file may grow.

CRIU refuses to restore when a regular file's size differs from the one at the dump. For a log or
a database that other processes write to that is no reason: those lose their recorded size here,
and what the kernel inherited from its launcher (a server's log, say) becomes /dev/null.

An image is two magic numbers, then entries of a 32-bit length and a protobuf message; field
numbers are those of CRIU's images/fdinfo.proto and images/regfile.proto.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotCorrupt

_MAGICS = struct.pack("<II", 0x54564319, 0x56303138)  # IMG_COMMON_MAGIC, FILES_MAGIC
_REGULAR = 3  # file_entry.reg
_FLAGS, _POSITION, _NAME, _SIZE, _MODE, _BUILD_ID = 2, 3, 6, 8, 10, 11  # reg_file_entry
_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int | bytes]  # number, wire type, value


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
    """The files a restore will open; raises SnapshotCorrupt if the image cannot be read."""
    return [_describe(fields) for fields in map(_regular, _entries(directory)) if fields]


def loosen(directory: Path, inherited: Sequence[str]) -> None:
    """Drop the size of files open for writing; turn `inherited` paths into /dev/null."""
    given_up = {path.encode() for path in inherited}

    def change(fields: list[Field]) -> list[Field]:
        if any(number == _NAME and value in given_up for number, _, value in fields):
            kept = [field for field in fields if field[0] not in (_SIZE, _MODE, _BUILD_ID)]
            return [_as_null(field) for field in kept]
        if _describe(fields).writable:
            return [field for field in fields if field[0] != _SIZE]
        return fields

    body = b"".join(_framed(_with_regular(entry, change)) for entry in _entries(directory))
    path = directory / "files.img"
    staging = path.with_suffix(".part")
    staging.write_bytes(_MAGICS + body)
    staging.chmod(0o600)
    staging.replace(path)


def _as_null(field: Field) -> Field:
    number, kind, _ = field
    if number == _NAME:
        return number, kind, os.devnull.encode()
    return (number, kind, 0) if number == _POSITION else field


def _describe(fields: Sequence[Field]) -> ImageFile:
    known = {number: value for number, _, value in fields}
    name, size, flags = known.get(_NAME, b""), known.get(_SIZE), known.get(_FLAGS, 0)
    if not isinstance(name, bytes) or isinstance(size, bytes) or isinstance(flags, bytes):
        raise _corrupt("a file's entry is malformed")
    writable = flags & os.O_ACCMODE != os.O_RDONLY
    return ImageFile(name.decode(errors="surrogateescape"), size, writable, _BUILD_ID in known)


def _entries(directory: Path) -> Iterator[list[Field]]:
    try:
        body = (directory / "files.img").read_bytes()
    except OSError as error:
        raise _corrupt(f"files.img cannot be read: {error.strerror}") from error
    if body[:8] != _MAGICS:
        raise _corrupt("files.img has another format")
    offset = 8
    while offset < len(body):
        end = offset + 4 + int.from_bytes(body[offset : offset + 4], "little")
        if offset + 4 > len(body) or end > len(body):
            raise _corrupt("files.img is cut off")
        yield list(_parse(body[offset + 4 : end]))
        offset = end


def _regular(entry: Sequence[Field]) -> list[Field] | None:
    for number, _, value in entry:
        if number == _REGULAR and isinstance(value, bytes):
            return list(_parse(value))
    return None


def _with_regular(
    entry: Sequence[Field], change: Callable[[list[Field]], list[Field]]
) -> list[Field]:
    return [
        (number, kind, _pack(change(list(_parse(value)))))
        if number == _REGULAR and isinstance(value, bytes)
        else (number, kind, value)
        for number, kind, value in entry
    ]


def _parse(message: bytes) -> Iterator[Field]:
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        kind = key & 7
        value: int | bytes
        if kind == _VARINT:
            value, offset = _varint(message, offset)
        else:
            if kind == _BYTES:
                length, offset = _varint(message, offset)
            elif kind in (_FIXED32, _FIXED64):
                length = 4 if kind == _FIXED32 else 8
            else:
                raise _corrupt("files.img holds an unknown wire type")
            value = message[offset : offset + length]
            offset += length
            if offset > len(message):
                raise _corrupt("files.img holds an entry that is cut off")
        yield key >> 3, kind, value


def _pack(fields: Sequence[Field]) -> bytes:
    out = bytearray()
    for number, kind, value in fields:
        out += _as_varint(number << 3 | kind)
        if isinstance(value, int):
            out += _as_varint(value)
        else:
            out += (_as_varint(len(value)) if kind == _BYTES else b"") + value
    return bytes(out)


def _framed(entry: Sequence[Field]) -> bytes:
    message = _pack(entry)
    return len(message).to_bytes(4, "little") + message


def _varint(message: bytes, offset: int) -> tuple[int, int]:
    value = 0
    for count in range(10):
        if offset + count >= len(message):
            break
        byte = message[offset + count]
        value |= (byte & 0x7F) << (7 * count)
        if byte < 0x80:
            return value, offset + count + 1
    raise _corrupt("files.img holds a number that is cut off")


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)


def _corrupt(what: str) -> SnapshotCorrupt:
    return SnapshotCorrupt(
        f"The snapshot's images are damaged: {what}.",
        remedy="Delete the snapshot and save it again.",
    )
