"""An export as one file: a header, blocks in any order, and a table of contents.

The header says where the table is and is written last: a second export appends its blocks and its
table, and a crash on the way leaves the first one valid.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import struct
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.snapshot.exchange import blocks
from zerostart_jupyter.snapshot.exchange.index import LARGEST, Index

MAGIC = b"ZSNAP\x01\r\n"
_HEADER = struct.Struct("<8sQQ32s")  # magic, offset and length of the table, its sha256


class Packed:
    """An open file; `open` for reading, `extend` for writing."""

    def __init__(self, descriptor: int, path: Path) -> None:
        self._descriptor = descriptor
        self.path = path
        self._places: dict[str, tuple[int, int]] = {}
        self._end = _HEADER.size
        self._sync = False

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[tuple[Packed, Index]]:
        """The file with its index; raises SnapshotCorrupt, and OSError where it cannot be read."""
        descriptor = os.open(path, os.O_RDONLY)
        try:
            opened = cls(descriptor, path)
            index = opened._index()
            opened._places = dict(index.places)
            yield opened, index
        finally:
            os.close(descriptor)

    @classmethod
    @contextlib.contextmanager
    def extend(cls, path: Path) -> Iterator[Packed]:
        """The file, made if it is not there; what fails leaves it as it was."""
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o600)
        opened = cls(descriptor, path)
        before = os.fstat(descriptor).st_size
        try:
            if before:
                opened._places = dict(opened._index().places)
                opened._end = before
            try:
                yield opened
            except BaseException:
                os.ftruncate(descriptor, before)
                if not before:
                    path.unlink(missing_ok=True)
                raise
        finally:
            os.close(descriptor)

    def has(self, name: str) -> bool:
        """Whether a block is there."""
        return name in self._places

    def put(self, name: str, data: bytes) -> None:
        """Add a packed block."""
        self._places[name] = (self._end, len(data))
        self._write(data)

    def get(self, name: str, limit: int) -> bytes:
        """A block as it lies there; raises SnapshotCorrupt."""
        at, count = self._places.get(name, (0, 0))
        if not 0 < count <= limit:
            raise blocks.corrupt("a block is missing")
        data = os.pread(self._descriptor, count, at)
        if len(data) != count:
            raise blocks.corrupt("it is cut short")
        return data

    def finish(self, index: Index) -> None:
        """Write the table of contents, and then where it is."""
        used = {name for each in index.contents for name in each.blocks}
        places = {name: place for name, place in self._places.items() if name in used}
        whole = Index(
            *(index.id, index.name, index.tier, index.created, index.about, index.contents),
            places=places,
        )
        data = whole.packed()
        at = self._end
        self._write(data)
        os.fsync(self._descriptor)
        header = _HEADER.pack(MAGIC, at, len(data), hashlib.sha256(data).digest())
        os.pwrite(self._descriptor, header, 0)
        os.fsync(self._descriptor)

    def wasted(self, index: Index) -> bool:
        """Whether more than half of the file is of no use any more."""
        used = {name for each in index.contents for name in each.blocks}
        live = sum(count for name, (_, count) in self._places.items() if name in used)
        return self._end > 2 * (live + (1 << 20))

    def _index(self) -> Index:
        size = os.fstat(self._descriptor).st_size
        header = os.pread(self._descriptor, _HEADER.size, 0)
        if len(header) != _HEADER.size or header[:8] != MAGIC:
            raise blocks.corrupt("it does not begin as one")
        _, at, count, sha = _HEADER.unpack(header)
        if count > LARGEST or at + count > size:
            raise blocks.corrupt("it is cut short")
        data = os.pread(self._descriptor, count, at)
        if hashlib.sha256(data).digest() != sha:
            raise blocks.corrupt("its table of contents is not what was written")
        return Index.read(data)

    def _write(self, data: bytes) -> None:
        view, at = memoryview(data), self._end
        while view:
            count = os.pwrite(self._descriptor, view, at)
            view, at = view[count:], at + count
        self._end = at
