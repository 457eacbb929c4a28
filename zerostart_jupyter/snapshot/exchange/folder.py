"""An export into a folder: blocks that any number of snapshots share, and a file for each."""

from __future__ import annotations

import contextlib
import hashlib
import os
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.snapshot.exchange import blocks
from zerostart_jupyter.snapshot.exchange.index import LARGEST, Index

MAGIC = b"ZSNAP\x02\r\n"
SUFFIX = ".zsnap"
_BLOCKS = "blocks"
_SHA256 = 32


class Folder:
    """A folder, here or on any file system that is mounted; nothing in it is written twice."""

    def __init__(self, path: Path, name: str) -> None:
        self.path = path / f"{name}{SUFFIX}"
        self._blocks = path / _BLOCKS

    @classmethod
    @contextlib.contextmanager
    def open(cls, path: Path) -> Iterator[tuple[Folder, Index]]:
        """That of one of its files, with the file's index; raises SnapshotCorrupt and OSError."""
        with path.open("rb") as stream:
            data = stream.read(LARGEST + len(MAGIC) + _SHA256)
        sha, body = data[len(MAGIC) : len(MAGIC) + _SHA256], data[len(MAGIC) + _SHA256 :]
        if hashlib.sha256(body).digest() != sha:
            raise blocks.corrupt("its table of contents is not what was written")
        yield cls(path.parent, path.name.removesuffix(SUFFIX)), Index.read(body)

    def has(self, name: str) -> bool:
        """Whether a block is there."""
        try:
            return self._place(name).stat().st_size > 0
        except OSError:
            return False

    def put(self, name: str, data: bytes) -> None:
        """Add a packed block; it is there when it is whole."""
        place = self._place(name)
        place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        _publish(place, data, sync=False)

    def get(self, name: str, limit: int) -> bytes:
        """A block as it lies there; raises SnapshotCorrupt."""
        try:
            with self._place(name).open("rb") as stream:
                data = stream.read(limit + 1)
        except OSError as error:
            raise blocks.corrupt("a block is missing") from error
        if len(data) > limit:
            raise blocks.corrupt("a block is not as large as it says")
        return data

    def finish(self, index: Index) -> None:
        """Write the snapshot's file."""
        data = index.packed()
        _publish(self.path, MAGIC + hashlib.sha256(data).digest() + data, sync=True)

    def _place(self, name: str) -> Path:
        return self._blocks / name[:2] / name


def _publish(path: Path, data: bytes, *, sync: bool) -> None:
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        descriptor = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            stream.write(data)
            if sync:
                stream.flush()
                os.fsync(stream.fileno())
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)
