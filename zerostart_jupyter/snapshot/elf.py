"""The build-id of a library: what its linker made of its content. ELF, "Note Section"; GNU ABI."""

from __future__ import annotations

import os
import struct
from pathlib import Path

_PROGRAM = struct.Struct("<IIQQQQQQ")  # p_type, p_flags, p_offset, …, p_filesz, p_memsz, p_align
_NOTE = struct.Struct("<III")  # sizes of name and description, type
_PT_NOTE = 4
_BUILD_ID = 3  # NT_GNU_BUILD_ID
_MOST = 1 << 16  # bytes of headers or notes that are looked at


def build_id(path: str | Path) -> str | None:
    """In hex; None for what is no 64-bit little-endian ELF file, or has none."""
    try:
        opened = os.open(path, os.O_RDONLY)
    except OSError:
        return None
    try:
        return _find(opened)
    except (OSError, struct.error):
        return None
    finally:
        os.close(opened)


def _find(opened: int) -> str | None:
    header = os.pread(opened, 64, 0)
    if header[:6] != b"\x7fELF\x02\x01":
        return None
    (table,) = struct.unpack_from("<Q", header, 32)
    size, count = struct.unpack_from("<HH", header, 54)
    if size < _PROGRAM.size:
        return None
    programs = os.pread(opened, min(size * count, _MOST), table)
    for at in range(0, len(programs) - size + 1, size):
        kind, _, offset, _, _, length, *_ = _PROGRAM.unpack_from(programs, at)
        if kind == _PT_NOTE:
            found = _in_notes(os.pread(opened, min(length, _MOST), offset))
            if found:
                return found
    return None


def _in_notes(notes: bytes) -> str | None:
    at = 0
    while at + _NOTE.size <= len(notes):
        name, length, kind = _NOTE.unpack_from(notes, at)
        begin = at + _NOTE.size
        content = begin + _padded(name)
        if kind == _BUILD_ID and notes[begin : begin + name] == b"GNU\0":
            return notes[content : content + length].hex() or None
        at = content + _padded(length)
    return None


def _padded(length: int) -> int:
    return -(-length // 4) * 4
