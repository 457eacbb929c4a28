"""Files that are read once: into their place and into a digest in the same pass."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple

from zerostart_jupyter.core.errors import SnapshotCorrupt

_BLOCK = 8 << 20  # bytes read at once


class Digest(NamedTuple):
    """What a file must be: so many bytes with this sha256, in hex."""

    bytes: int
    sha256: str


class Verified:
    """A file being read. `check` is called now and then with the bytes just read."""

    def __init__(self, stream: BinaryIO, path: Path, digest: Digest) -> None:
        self._stream = stream
        self._path = path
        self._digest = digest
        self._sha = hashlib.sha256()
        self._read = 0
        self.check: Callable[[int], None] = lambda count: None

    @classmethod
    @contextmanager
    def open(cls, path: Path, digest: Digest) -> Iterator[Verified]:
        """The file; at the end of the block all of it was read and is what was written.

        Raises SnapshotCorrupt.
        """
        try:
            stream = path.open("rb", buffering=0)
        except OSError as error:
            raise damaged(path.name, "is missing") from error
        with stream:
            opened = cls(stream, path, digest)
            if os.fstat(stream.fileno()).st_size != digest.bytes:
                raise opened.damaged()
            yield opened
            opened._finish()

    def read(self, count: int = -1) -> bytes:
        """Like a file's: fewer bytes than asked for only at the end."""
        left = self._digest.bytes - self._read
        made = bytearray(left if count < 0 else min(count, left))
        self.fill(memoryview(made))
        return bytes(made)

    def fill(self, place: memoryview) -> None:
        """Read exactly this much."""
        place = place.cast("B")
        while place:
            count = self._stream.readinto(place[:_BLOCK])  # type: ignore[attr-defined]
            if not count:
                raise self.damaged()
            self._sha.update(place[:count])
            self._read += count
            self.check(count)
            place = place[count:]

    def expect(self, count: int) -> None:
        """Raise SnapshotCorrupt unless so many bytes are left."""
        if count != self._digest.bytes - self._read:
            raise self.damaged()

    def damaged(self) -> SnapshotCorrupt:
        """The error that this file calls for."""
        return damaged(self._path.name, "is not what was written")

    def _finish(self) -> None:
        self.read()
        if self._read != self._digest.bytes or self._sha.hexdigest() != self._digest.sha256:
            raise self.damaged()


def damaged(name: str, how: str) -> SnapshotCorrupt:
    """The error for a file of a snapshot that cannot be used."""
    return SnapshotCorrupt(
        f"The snapshot's file {name} {how}.", remedy="Delete the snapshot and save it again."
    )
