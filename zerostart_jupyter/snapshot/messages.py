"""CRIU's image files as messages: read, changed and written without knowing all of their fields.

An image is two magic numbers, then entries of a 32-bit length and a protobuf message. Fields we
do not know keep their place and value; numbers are those of CRIU's images/*.proto.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotCorrupt

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5

Field = tuple[int, int, int | bytes]  # number, wire type, value

_COMMON = 0x54564319  # IMG_COMMON_MAGIC


def read(path: Path, magic: int) -> Iterator[list[Field]]:
    """The entries of an image file; raises SnapshotCorrupt if it cannot be read."""
    try:
        body = path.read_bytes()
    except OSError as error:
        raise corrupt(f"{path.name} cannot be read: {error.strerror}") from error
    if body[:8] != struct.pack("<II", _COMMON, magic):
        raise corrupt(f"{path.name} has another format")
    offset = 8
    while offset < len(body):
        end = offset + 4 + int.from_bytes(body[offset : offset + 4], "little")
        if offset + 4 > len(body) or end > len(body):
            raise corrupt(f"{path.name} is cut off")
        yield list(parse(body[offset + 4 : end]))
        offset = end


def write(path: Path, magic: int, entries: Iterable[Sequence[Field]]) -> None:
    """Put an image file in place of the one that is there."""
    body = b"".join(map(_framed, entries))
    staging = path.with_suffix(".part")
    staging.write_bytes(struct.pack("<II", _COMMON, magic) + body)
    staging.chmod(0o600)
    staging.replace(path)


def parse(message: bytes) -> Iterator[Field]:
    """The fields of a message in their order; raises SnapshotCorrupt."""
    offset = 0
    while offset < len(message):
        key, offset = _varint(message, offset)
        kind = key & 7
        value: int | bytes
        if kind == VARINT:
            value, offset = _varint(message, offset)
        else:
            if kind == BYTES:
                length, offset = _varint(message, offset)
            elif kind in (FIXED32, FIXED64):
                length = 4 if kind == FIXED32 else 8
            else:
                raise corrupt("an entry holds an unknown wire type")
            value = message[offset : offset + length]
            offset += length
            if offset > len(message):
                raise corrupt("an entry is cut off")
        yield key >> 3, kind, value


def pack(fields: Iterable[Field]) -> bytes:
    """A message of these fields."""
    out = bytearray()
    for number, kind, value in fields:
        out += _as_varint(number << 3 | kind)
        if isinstance(value, int):
            out += _as_varint(value)
        else:
            out += (_as_varint(len(value)) if kind == BYTES else b"") + value
    return bytes(out)


def number(field: int, value: int) -> Field:
    """A field that holds a number."""
    return field, VARINT, value


def block(field: int, value: bytes) -> Field:
    """A field that holds bytes or a message."""
    return field, BYTES, value


def numbers(fields: Iterable[Field]) -> dict[int, int]:
    """The fields that hold a number, by field; of repeated ones the last."""
    return {number: value for number, _, value in fields if isinstance(value, int)}


def corrupt(what: str) -> SnapshotCorrupt:
    """The error for an image that cannot be understood."""
    return SnapshotCorrupt(
        f"The snapshot's images are damaged: {what}.",
        remedy="Delete the snapshot and save it again.",
    )


def _framed(entry: Sequence[Field]) -> bytes:
    message = pack(entry)
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
    raise corrupt("an entry holds a number that is cut off")


def _as_varint(value: int) -> bytes:
    out = bytearray()
    while value > 0x7F:
        out.append(value & 0x7F | 0x80)
        value >>= 7
    out.append(value)
    return bytes(out)
