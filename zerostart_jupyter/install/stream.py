"""A wheel that comes in one piece, from its first byte on: unpacked while it comes.

Its central directory is last, so until then nothing of a member is believed but what its own
header says, and that under every rule for directories: each header is read as a directory of one.
Contents go into numbered files. In the end the real directory must say the same of every record,
and only then do they get names.
"""

from __future__ import annotations

import itertools
import struct
import tempfile
from collections.abc import Callable, Generator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

from isal import isal_zlib

from zerostart_jupyter.install.archive import (
    MEMBERS,
    STORED,
    Member,
    find_end,
    inflated,
    padded,
    read_directory,
    read_entry,
    reject,
)
from zerostart_jupyter.install.inflate import Run
from zerostart_jupyter.install.source import Tail

_LOCAL = struct.Struct("<4s5H3I2H")
_CENTRAL = struct.Struct("<4s6H3I5H2I")
_RECORD, _ENTRY, _DESCRIPTOR = b"PK\3\4", b"PK\1\2", b"PK\7\x08"
_DESCRIBED = 0x8
_FULL = 0xFFFFFFFF
_ZIP64 = struct.Struct("<2H2Q")
_MOST_OF_END = 130 << 20  # bytes after the last member
_IN_MEMORY = 8 << 20  # bytes of a member of unknown length
_BITE = 256 << 10  # packed bytes taken at a time
_GULP = 8 << 20  # inflated bytes taken at a time
_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub has no base

Steps = Generator[None, None, None]


class Unstreamable(Exception):
    """Only the directory can tell: a member says neither how long it is nor where it ends, or the
    members so far inflate to more than a wheel as a whole may."""


@dataclass(frozen=True, slots=True)
class _Header:
    """A local header as it stands; `data` is all of it, `sizes` are packed and unpacked bytes."""

    data: bytes
    needed: int
    flags: int
    method: int
    crc: int
    sizes: tuple[int, int]
    name: bytes
    extra: bytes


class Stream:
    """Takes a wheel's bytes in order; `folder` is for the contents until they get their names.

    `feed()` raises WheelRejected, Unstreamable, or what `room(bytes)` raises where the disk has no
    room for a member.
    """

    def __init__(
        self, folder: Path, wheel: str, room: Callable[[int], object] = lambda count: None
    ) -> None:
        self._folder = folder
        self._wheel = wheel
        self._room = room
        self._packed = self._size = 0  # of the members so far
        self._piece = memoryview(b"")
        self._at = 0  # of the next byte that nobody has taken
        self._found: list[Member] = []
        self._end = bytearray()
        self._end_start = 0
        self._run: Run | None = None
        self._steps = self._walk()
        next(self._steps)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        self._piece = piece
        next(self._steps)

    def finish(self) -> tuple[Tail, list[Member]]:
        """The file's end and its members, once all bytes were fed; `file()` has their contents."""
        self.close()
        total = self._end_start + len(self._end)
        tail = bytes(self._end)
        end = find_end(tail, total, self._wheel)
        if end.start != self._end_start:
            reject(self._wheel, "its central directory is not where its last member ends")
        directory = memoryview(tail)[: end.stop - end.start]
        members = read_directory(directory, end, self._wheel)
        if [replace(each, mode=0) for each in members] != self._found:
            reject(self._wheel, "its directory does not say what its members' own headers say")
        return Tail(total, end.start, tail), members

    def file(self, member: Member) -> Path:
        """Where a member's content is."""
        return self._folder / str(member.offset)

    def close(self) -> None:
        """Let go of a half-written file."""
        self._steps.close()
        if self._run is not None:
            self._run.close()

    def _walk(self) -> Steps:
        yield
        signature = yield from self._exactly(4)
        while signature == _RECORD:
            start = self._at - len(signature)
            header = yield from self._header()
            if header.flags & _DESCRIBED:
                signature = yield from self._described(start, header)
            else:
                member = self._member(start, header, header.crc, header.sizes, header.extra)
                run = self._begin(member, header, 0)
                yield from self._pass_on(run, member.packed)
                signature = yield from self._exactly(4)
        self._end_start = self._at - len(signature)
        self._end += signature
        while True:
            self._end += self._take(len(self._piece))
            if len(self._end) > _MOST_OF_END:
                reject(self._wheel, "there is no end to what comes after its members")
            yield

    def _header(self) -> Generator[None, None, _Header]:
        data = _RECORD + (yield from self._exactly(_LOCAL.size - 4))
        _, needed, flags, method, _, _, crc, packed, size, name_n, extra_n = _LOCAL.unpack(data)
        name = yield from self._exactly(name_n)
        extra = yield from self._exactly(extra_n)
        whole = data + name + extra
        return _Header(whole, needed, flags, method, crc, (packed, size), name, extra)

    def _described(self, start: int, header: _Header) -> Generator[None, None, bytes]:
        """A record whose sizes follow its data; what comes back is the next one's signature.

        Its end is found by inflating it once; then it is unpacked like any other.
        """
        self._member(start, header, 0, (0, 0), b"")  # its name, its flags and its method
        if header.method == STORED and not header.name.endswith(b"/"):
            raise Unstreamable
        with tempfile.SpooledTemporaryFile(_IN_MEMORY, dir=str(self._folder)) as kept:
            crc, size = 0, 0
            if header.method != STORED:
                crc, size = yield from self._inflate(kept, header)
            packed = kept.tell()
            descriptor, signature = yield from self._descriptor(crc, packed, size, header)
            short = (min(packed, _FULL), min(size, _FULL))
            extra = _ZIP64.pack(1, 16, size, packed) if short == (_FULL, _FULL) else b""
            member = self._member(start, header, crc, short, extra)
            run = self._begin(member, header, len(descriptor))
            kept.seek(0)
            while piece := kept.read(_BITE):
                run.feed(memoryview(piece))
            run.feed(memoryview(descriptor))
        return signature

    def _inflate(self, kept: IO[bytes], header: _Header) -> Generator[None, None, tuple[int, int]]:
        inflater = isal_zlib.decompressobj(-15)
        crc, size = 0, 0
        while not inflater.eof:
            while not len(self._piece):
                yield
            bite: bytes | memoryview = self._piece[:_BITE]
            here = len(bite)
            try:
                while True:
                    content = inflater.decompress(bite, _GULP)
                    crc, size = isal_zlib.crc32(content, crc), size + len(content)
                    bite = inflater.unconsumed_tail
                    if inflater.eof or (not bite and len(content) < _GULP):
                        break
            except _DAMAGED:
                reject(self._wheel, f"{header.name!r} is damaged")
            kept.write(self._take(here - len(inflater.unused_data)))
            self._check_size(kept.tell(), size)
            if padded(kept.tell(), size):
                reject(self._wheel, f"{header.name!r} is mostly padding")
        return crc, size

    def _descriptor(
        self, crc: int, packed: int, size: int, header: _Header
    ) -> Generator[None, None, tuple[bytes, bytes]]:
        # APPNOTE 4.3.9: with or without a signature, with 32 or 64 bits.
        seen = yield from self._exactly(12)
        for form, mark in itertools.product(("<3I", "<I2Q"), (b"", _DESCRIPTOR)):
            length = struct.calcsize(form) + len(mark)
            seen += yield from self._exactly(length + 4 - len(seen))
            wide = form != "<3I" or max(packed, size) <= _FULL
            said = wide and mark + struct.pack(form, crc, packed, size)
            if seen[:-4] == said and seen[-4:] in (_RECORD, _ENTRY):
                return seen[:-4], seen[-4:]
        reject(self._wheel, f"{header.name!r} has two headers that differ")

    def _member(
        self, start: int, header: _Header, crc: int, sizes: tuple[int, int], extra: bytes
    ) -> Member:
        """What a header says, as if it stood in a central directory; WheelRejected if no member
        may be like that."""
        entry = _CENTRAL.pack(
            *(_ENTRY, header.needed, header.needed, header.flags, header.method, 0, 0, crc),
            *(*sizes, len(header.name), len(extra), 0, 0, 0, 0, 0),
        )
        entry += header.name + extra
        return replace(read_entry(memoryview(entry), 0, self._wheel)[0], offset=start)

    def _check_size(self, packed: int, size: int) -> None:
        """Whether a member of these sizes may follow what has come."""
        if inflated(self._packed + packed, self._size + size):
            raise Unstreamable
        if size > _IN_MEMORY:
            self._room(size)

    def _begin(self, member: Member, header: _Header, descriptor: int) -> Run:
        self._check_size(member.packed, member.size)
        self._packed, self._size = self._packed + member.packed, self._size + member.size
        if len(self._found) >= MEMBERS:
            reject(self._wheel, f"it has more than {MEMBERS} members")
        member.end = member.offset + len(header.data) + member.packed + descriptor
        self._found.append(member)
        self._run = Run([member], self._place, self._wheel)
        self._run.feed(memoryview(header.data))
        return self._run

    def _place(self, member: Member) -> str | None:
        return None if member.directory else str(self.file(member))

    def _pass_on(self, run: Run, count: int) -> Steps:
        while count:
            while not len(self._piece):
                yield
            piece = self._take(count)
            count -= len(piece)
            run.feed(piece)

    def _take(self, most: int) -> memoryview:
        piece = self._piece[:most]
        self._piece = self._piece[len(piece) :]
        self._at += len(piece)
        return piece

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        taken = bytes(self._take(count))
        while len(taken) < count:
            yield
            taken += bytes(self._take(count - len(taken)))
        return taken
