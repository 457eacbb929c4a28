"""One wheel from its source into the store: which bytes to ask for, and what to do with them.

Knows nothing of threads or of other wheels. Each wheel is opened by its end, where its directory
is: the names it can be imported as, and its metadata, are known long before its bytes are here.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import DigestMismatch, NetworkError
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import wheel as rules
from zerostart_jupyter.install.archive import TAIL, Member, find_end, read_directory
from zerostart_jupyter.install.assembly import Assembly, Consumer
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.inflate import peek
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.packing import check_digest, check_size
from zerostart_jupyter.install.partial import Partial
from zerostart_jupyter.install.segments import AWAITED, Buffers, Segment, cut
from zerostart_jupyter.install.source import (
    Changed,
    FileSource,
    NoRanges,
    Source,
    Tail,
    Whole,
)
from zerostart_jupyter.install.stream import Stream, Unstreamable
from zerostart_jupyter.install.unpack import StoredWheel, Unpacking
from zerostart_jupyter.install.wheel import Layout

_WHOLE = 1 << 20  # wheels up to this many bytes are asked for at once
_REACH = 1 << 20  # bytes before the directory that are fetched early to have the dist-info
_EARLY = ("METADATA", "entry_points.txt", "top_level.txt")

Progress = Callable[[int], None]


class Restart(Exception):
    """What was gathered of a wheel is of no use, and it is worth another try."""


@dataclass(frozen=True, slots=True)
class Opened:
    """What is known of a wheel once its end is here; `files` are texts of its dist-info."""

    total: int
    names: ImportNames
    files: dict[str, str]
    requires: tuple[str, ...]


class Intake:
    """The way of one wheel. `open()`, then `fetch()` each segment in any order and thread, feed
    the consumers of `assembly`, and `close()` once `assembly.open` is 0; or `abandon()`.
    Segments have `chunk` bytes, or fewer so that there are `spread` of them.

    A wheel of at most `whole` bytes is for a packer: it is not unpacked here, `gather()` gives
    its bytes once all are here, and then it is `packed()`.
    """

    def __init__(
        self,
        store: Store,
        locked: Locked,
        source: Source,
        chunk: int,
        progress: Progress,
        buffers: Buffers,
        whole: int = 0,
        *,
        spread: int = 1,
    ) -> None:
        rules.check_filename(locked.wheel, locked.name, locked.version)
        self._store = store
        self._locked = locked
        self._source = source
        self._chunk = chunk
        self._spread = spread
        self._progress = progress
        self._buffers = buffers
        self._limit = whole
        self._parts: dict[int, memoryview] = {}
        self._digest = hashlib.sha256()
        self._partial: Partial | None = None
        self._spooled: Path | None = None
        self._unpacking: Unpacking | None = None
        self.resumed = False
        self.whole = False
        self.assembly: Assembly | None = None
        self.segments: Sequence[Segment] = ()
        self.last: tuple[Segment, memoryview] | None = None

    def open(self) -> Opened:
        """Read the wheel's end; afterwards `segments` are what is still to be fetched, and
        `last` is the end itself, already here. Raises Restart or an InstallError."""
        want = self._locked.size
        try:
            tail = self._source.tail(want if want is not None and want <= _WHOLE else TAIL)
        except Changed:
            raise Restart from None
        except NoRanges as refusal:
            return self._stream(refusal.whole)
        check_size(self._locked, tail.total)
        self.whole = tail.total <= self._limit
        try:
            end = find_end(tail.data, tail.total, self._locked.wheel)
            tail = self._reach(tail, end.start)
            directory = memoryview(tail.data)[end.start - tail.start : end.stop - tail.start]
            members = read_directory(directory, end, self._locked.wheel)
            layout = rules.lay_out(
                members, self._locked.wheel, self._locked.name, self._locked.version
            )
            tail = self._reach(tail, _first_early(members, layout, tail.start))
        except Changed:
            raise Restart from None
        self._check_free(sum(member.size for member in members))
        self._partial = Partial.find(self._store, self._locked.sha256, tail.total)
        kept = self._partial.have if self._partial is not None else []
        consumers = [Consumer(0, tail.total, self._digest.update)]
        if not self.whole:
            self._unpacking = Unpacking(self._store, self._locked, members, layout)
            consumers += [Consumer(run.start, run.stop, run.feed) for run in self._unpacking.runs]
        self._plan(tail, kept, consumers)
        return self._opened(tail, members, layout)

    def fetch(self, segment: Segment) -> memoryview:
        """The bytes of a segment. Raises Restart or an InstallError."""
        data = self._buffers.take(len(segment))
        if segment.kept and self._partial is not None:
            if not self._partial.read(segment.start, data):
                raise Restart
            self._progress(len(segment))
            return data
        coming = self._partial.receiving() if self._partial else contextlib.nullcontext()
        try:
            with coming:
                self._source.read(segment.start, data, self._received)
        except (Changed, NoRanges):
            raise Restart from None
        return data

    def cost(self, segment: Segment) -> int:
        """The room of the window that fetching a segment takes; a wheel that is gathered takes
        its room at once, or two halves could wait for each other's."""
        if not self.whole:
            return len(segment)
        return sum(map(len, self.segments)) if segment is self.segments[0] else 0

    def gather(self, segment: Segment, data: memoryview) -> Sequence[memoryview]:
        """Take a segment of a wheel that is for a packer; all of them in order with the last."""
        self._parts[segment.start] = data
        if len(self._parts) <= len(self.segments):
            return ()
        return [part for _, part in sorted(self._parts.items())]

    def packed(self) -> None:
        """Let go of the bytes: the wheel is in the store."""
        for part in self._parts.values():
            self._buffers.give(part)
        self._let_go(keep=False)

    def close(self) -> StoredWheel:
        """Compare the digest, check the wheel as a whole, publish it.

        Raises DigestMismatch or WheelRejected, with nothing published; Restart if the bytes of
        an earlier process may be at fault.
        """
        try:
            check_digest(self._locked, self._digest.hexdigest())
        except DigestMismatch:
            if self.resumed:
                raise Restart from None
            raise
        assert self._unpacking is not None
        result = self._unpacking.publish()
        self._let_go(keep=False)
        return result

    def abandon(self, *, keep: bool) -> None:
        """Remove what was staged; `keep` the fetched bytes for another time, or not."""
        if self._unpacking is not None:
            self._unpacking.abandon()
        self._let_go(keep=keep)

    def forget(self) -> None:
        """Remove the bytes that were kept for another time: they are not to be trusted."""
        if self._partial is not None:
            self._partial.discard()

    def _stream(self, whole: Whole) -> Opened:
        """Unpack a wheel while it comes in one piece; nothing of it is left to be fetched."""
        folder = self._spooled = self._store.stage("partial")
        digest = hashlib.sha256()
        stream = Stream(folder, self._locked.wheel, self._check_free)

        def write(at: int, block: memoryview) -> None:
            self._check_most(at + len(block))
            digest.update(block)
            stream.feed(block)
            self._progress(len(block))

        try:
            whole.spool(write)
            tail, members = stream.finish()
        except Changed:
            raise Restart from None
        except Unstreamable:
            self._source = self._spool(whole, folder / "bytes")
            return self.open()
        finally:
            stream.close()
        self._digest = digest
        layout = rules.lay_out(members, self._locked.wheel, self._locked.name, self._locked.version)
        self._unpacking = Unpacking(self._store, self._locked, members, layout)
        self._unpacking.take(stream.file)
        self._plan(tail, [], [Consumer(tail.start, tail.total, lambda _: None)])
        return Opened(tail.total, layout.names, {}, ())

    def _spool(self, whole: Whole, path: Path) -> Source:
        """All of a file on disk, for a wheel that only its directory can explain."""
        with open(path, "wb") as file:

            def write(at: int, block: memoryview) -> None:
                self._check_most(at + len(block))
                self._check_free(at + len(block))  # it has to fit a second time, unpacked
                file.write(block)
                self._progress(len(block))

            try:
                whole.spool(write)
            except Changed:
                raise Restart from None
        self._progress = lambda _: None  # what is read from there now has been counted
        return FileSource(path)

    def _reach(self, tail: Tail, start: int) -> Tail:
        """A tail that begins at `start` or before."""
        if start >= tail.start:
            return tail
        if start < 0:
            raise NetworkError(
                f"{self._locked.wheel} is damaged.", remedy="Tell the index it came from."
            )
        more = bytearray(tail.start - start)
        self._source.read(start, memoryview(more), lambda _, __: None)
        return Tail(tail.total, start, bytes(more) + tail.data)

    def _plan(
        self, tail: Tail, kept: Sequence[tuple[int, int]], consumers: Sequence[Consumer]
    ) -> None:
        kept = [(start, min(stop, tail.start)) for start, stop in kept if start < tail.start]
        self.resumed = bool(kept)
        streamed = consumers[0].start > 0
        chunk = max(min(self._chunk, tail.start // self._spread), min(self._chunk, AWAITED))
        self.segments = () if streamed else cut(tail.start, chunk, kept)
        last = Segment(tail.start, tail.total)
        self.assembly = Assembly([*self.segments, last], consumers, self._buffers.give)
        self.last = (last, memoryview(tail.data))

    def _opened(self, tail: Tail, members: Sequence[Member], layout: Layout) -> Opened:
        view = memoryview(tail.data)
        files: dict[str, str] = {}
        by_name = {member.name: member for member in members}
        for file in _EARLY:
            member = by_name.get(layout.member(file))
            if member is None:
                continue
            content = peek(member, view, tail.start, layout.wheel)
            if content is not None:
                files[file] = content.decode("utf-8", errors="replace")
        requires: tuple[str, ...] = ()
        if "METADATA" in files:
            requires = rules.check_metadata(files["METADATA"].encode(), layout).requires
        else:
            files = {}
        self._progress(len(tail.data))
        return Opened(tail.total, layout.names, files, requires)

    def _received(self, start: int, block: memoryview) -> None:
        if self._partial is not None:
            with contextlib.suppress(OSError):  # a full disk ends the install elsewhere
                self._partial.write(start, block)
        self._progress(len(block))

    def _check_free(self, needed: int) -> None:
        if needed > shutil.disk_usage(self._store.root).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _check_most(self, come: int) -> None:
        if self._locked.size is not None and come > self._locked.size:
            check_size(self._locked, come)

    def _let_go(self, *, keep: bool) -> None:
        if self._partial is not None:
            if keep:
                self._partial.close()
            else:
                self._partial.discard()
        if self._spooled is not None:
            shutil.rmtree(self._spooled, ignore_errors=True)


def _first_early(members: Sequence[Member], layout: Layout, start: int) -> int:
    wanted = {layout.member(file) for file in _EARLY}
    first = min((each.offset for each in members if each.name in wanted), default=start)
    return first if start - first <= _REACH else start
