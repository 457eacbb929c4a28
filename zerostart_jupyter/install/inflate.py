"""Members out of bytes that arrive in pieces: inflated in order, checked, written.

A run is a stretch of consecutive members that one thread walks through. A large member is a run
of its own, so that several are inflated at once; small ones share a run, because a hand-over
between threads costs more than a small file.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Callable, Generator, Sequence
from functools import partial

from isal import isal_zlib

from zerostart_jupyter.install.archive import DEFLATED, NEWEST, Member, check_local, reject
from zerostart_jupyter.install.behind import WORTHWHILE, Behind, write_all

RUN_BYTES = 2 << 20  # packed bytes after which a run of small members ends
_AT_ONCE = 4 << 20  # members up to this many inflated bytes are written with one call
_BITE = 256 << 10  # packed bytes inflated at a time
_GULP = 8 << 20  # inflated bytes taken at a time, whatever the ratio

_DAMAGED: type[Exception] = isal_zlib.error  # type: ignore[assignment]  # its stub has no base
_LOCAL = struct.Struct("<4s5H3I2H")

Place = Callable[[Member], str | None]
Steps = Generator[None, None, None]


def split(members: Sequence[Member]) -> list[list[Member]]:
    """Consecutive members grouped into runs of about RUN_BYTES."""
    runs: list[list[Member]] = []
    room = 0
    for member in members:
        if not runs or member.packed > room:
            runs.append([])
            room = RUN_BYTES
        runs[-1].append(member)
        room -= member.end - member.offset
    return runs


class Run:
    """Writes its members as their bytes come; `place` gives each one's path, None to write none.

    `feed()` wants the bytes from `start` to `stop` of the file, in order and without gaps, and
    raises WheelRejected where they contradict the directory. Used by one thread at a time.
    """

    def __init__(self, members: Sequence[Member], place: Place, wheel: str) -> None:
        self.start = members[0].offset
        self.stop = members[-1].end
        self.fed = self.start
        self.done = False
        self._members = members
        self._place = place
        self._wheel = wheel
        self._piece = memoryview(b"")
        self._stated: tuple[int, int, int] | None = None  # what a header says that needs a look
        self._steps = self._walk()
        next(self._steps)

    def feed(self, piece: memoryview) -> None:
        """Take the next bytes."""
        self._piece = piece
        self.fed += len(piece)
        next(self._steps)
        if self.done != (self.fed == self.stop) or len(self._piece):
            reject(self._wheel, "its members do not end where its directory says")
        self._piece = memoryview(b"")

    def close(self) -> None:
        """Let go of a half-written file."""
        self._steps.close()

    def _walk(self) -> Steps:
        yield
        for member in self._members:
            head = yield from self._exactly(30 + len(member.raw))
            slack = self._check(head, member)
            extra = yield from self._exactly(slack)
            if self._stated and not check_local(extra, self._stated, member, self._wheel):
                reject(self._wheel, f"{member.name!r} has two headers that differ")
            path = self._place(member)
            if path is not None:
                yield from self._write(member, path)
            else:
                yield from self._exactly(member.packed)
            if member.described:
                length = member.end - member.offset - 30 - len(member.raw) - slack - member.packed
                tail = yield from self._exactly(length)
                self._check_descriptor(tail, member)
        self.done = True
        yield

    def _exactly(self, count: int) -> Generator[None, None, bytes]:
        # Almost always at hand; a header cut by a segment's edge is put together.
        taken = bytes(self._piece[:count])
        self._piece = self._piece[count:]
        while len(taken) < count:
            yield
            part = self._piece[: count - len(taken)]
            taken += bytes(part)
            self._piece = self._piece[len(part) :]
        return taken

    def _check(self, head: bytes, member: Member) -> int:
        signature, needed, flags, method, _, _, *stated, name_n, extra_n = _LOCAL.unpack_from(head)
        plain = not extra_n and stated == [member.crc, member.packed, member.size]
        self._stated = None if plain else (stated[0], stated[1], stated[2])
        same = (
            signature == b"PK\3\4"
            and needed & 0xFF <= NEWEST
            and name_n == len(member.raw)
            and head[30:] == member.raw
            and flags == member.flags
            and method == member.method
        )
        if not same:
            reject(self._wheel, f"{member.name!r} has two headers that differ")
        rest = member.end - member.offset - 30 - name_n - extra_n - member.packed
        if rest not in ((12, 16, 20, 24) if member.described else (0,)):
            reject(self._wheel, f"there are bytes between {member.name!r} and what comes after it")
        return int(extra_n)

    def _check_descriptor(self, tail: bytes, member: Member) -> None:
        body = tail[4:] if len(tail) in (16, 24) else tail
        crc, packed, size = struct.unpack("<3I" if len(body) == 12 else "<I2Q", body)
        signed = len(body) == len(tail) or tail[:4] == b"PK\7\x08"
        if not signed or (crc, packed, size) != (member.crc, member.packed, member.size):
            reject(self._wheel, f"{member.name!r} has two headers that differ")

    def _write(self, member: Member, path: str) -> Steps:
        descriptor = os.open(
            path,
            os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW,
            0o777 if member.executable else 0o666,
        )
        try:
            if member.packed <= len(self._piece) and member.size <= _AT_ONCE:
                data = self._piece[: member.packed]
                self._piece = self._piece[member.packed :]
                self._at_once(member, data, descriptor)
            elif member.method == DEFLATED and member.size >= WORTHWHILE:
                with contextlib.closing(Behind(descriptor)) as behind:
                    yield from self._streamed(member, behind.write)
            else:  # what is not inflated lies in memory that is used again at once
                yield from self._streamed(member, partial(write_all, descriptor))
        finally:
            os.close(descriptor)

    def _at_once(self, member: Member, data: memoryview, descriptor: int) -> None:
        content: bytes | memoryview = data
        if member.method == DEFLATED:
            inflater = isal_zlib.decompressobj(-15)
            try:
                content = inflater.decompress(data, member.size + 1)
            except _DAMAGED:
                reject(self._wheel, f"{member.name!r} is damaged")
            if not inflater.eof or inflater.unused_data:
                reject(self._wheel, f"{member.name!r} is not as long as it says")
        self._check_content(member, len(content), isal_zlib.crc32(content))
        write_all(descriptor, content)

    def _streamed(self, member: Member, write: Callable[[bytes | memoryview], None]) -> Steps:
        inflater = isal_zlib.decompressobj(-15) if member.method == DEFLATED else None
        left, size, crc = member.packed, 0, 0
        while left:
            while not len(self._piece):
                yield
            if inflater is not None and inflater.eof:
                reject(self._wheel, f"{member.name!r} is not as long as it says")
            bite: bytes | memoryview = self._piece[: min(_BITE, left)]
            self._piece = self._piece[len(bite) :]
            left -= len(bite)
            while True:
                content: bytes | memoryview = bite
                if inflater is not None:
                    try:
                        content = inflater.decompress(bite, _GULP)
                    except _DAMAGED:
                        reject(self._wheel, f"{member.name!r} is damaged")
                    bite = inflater.unconsumed_tail
                size += len(content)
                if size > member.size:
                    reject(self._wheel, f"{member.name!r} is longer than it says")
                crc = isal_zlib.crc32(content, crc)
                write(content)
                if inflater is None or inflater.eof or (not bite and len(content) < _GULP):
                    break
        if inflater is not None and (not inflater.eof or inflater.unused_data):
            reject(self._wheel, f"{member.name!r} is not as long as it says")
        self._check_content(member, size, crc)

    def _check_content(self, member: Member, size: int, crc: int) -> None:
        if size != member.size:
            reject(self._wheel, f"{member.name!r} has {size} bytes and not {member.size}")
        if crc != member.crc:
            reject(self._wheel, f"{member.name!r} has a wrong checksum")


def peek(member: Member, data: memoryview, base: int, wheel: str) -> bytes | None:
    """A small member's content out of `data`, the file's bytes from `base` on; None if it is not
    wholly in there. Nothing but its own sizes and checksum is checked."""
    at = member.offset - base
    if at < 0 or member.end - base > len(data) or member.size > _AT_ONCE:
        return None
    name_n, extra_n = struct.unpack_from("<2H", data, at + 26)
    at += 30 + name_n + extra_n
    content = bytes(data[at : at + member.packed])
    if member.method == DEFLATED:
        try:
            content = isal_zlib.decompressobj(-15).decompress(content, member.size + 1)
        except _DAMAGED:
            reject(wheel, f"{member.name!r} is damaged")
    if len(content) != member.size or isal_zlib.crc32(content) != member.crc:
        reject(wheel, f"{member.name!r} is damaged")
    return content
