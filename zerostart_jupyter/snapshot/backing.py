"""Files behind the memory of restored kernels: the `memory` room of the store.

One entry holds what one save added; a file is named after the sha256 of its data and is never
written again. Saves that find their data there already refer to it, so snapshots share files, and
an entry stays while a snapshot names it in its marker or a restored kernel (its process id 1)
holds a lease on it.

A file is longer than its data by a hole: an allocation that grows finds zeros there.

A restore reads none of these files. Each is on the disk before its entry is published, and its
inode, size and times are noted then; whoever writes to it afterwards changes them. Where they
differ from the note, all data is checked against the digest, and either it is right or the
restore is refused. `verify(thorough=True)` reads everything, for disks that cannot be trusted.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.core.store import Lease, Store

ROOM = "memory"
TAIL = 1 << 40  # bytes of hole after the data
MODE = 0o400
_BLOCK = 8 << 20  # bytes copied and digested at once


@dataclass(frozen=True, slots=True)
class Backed:
    """A file by its final path, with the bytes of data in it and their sha256."""

    path: Path
    length: int
    digest: str

    @property
    def size(self) -> int:
        """Its length with the hole."""
        return self.length + TAIL


class Batch:
    """The files that one save adds; as a context manager, which publishes on a clean exit.

    `keep` are leases that the caller holds until a published snapshot names `keys`.
    """

    def __init__(self, store: Store, key: str) -> None:
        self._store = store
        self._key = key
        self._known = dict(_known(store))
        self._added: dict[str, Backed] = {}
        self._about: dict[str, Any] = {"files": {}}
        self._publishing = contextlib.ExitStack()
        self._staging: Path | None = None
        self.keep = {key: store.lease(ROOM, key)}

    def add(self, source: int, runs: Iterable[tuple[int, int, int]], length: int) -> Backed | None:
        """Have (at, length, offset in `source`) in a file of this much data, zeros between.

        None where no file can be that long.
        """
        if self._staging is None:
            staged = self._store.publish(ROOM, self._key, self._about)
            self._staging = self._publishing.enter_context(staged)
        part = self._staging / "part"
        target = os.open(part, os.O_RDWR | os.O_CREAT | os.O_TRUNC, MODE)
        try:
            try:
                os.ftruncate(target, length + TAIL)
            except OSError as error:
                if error.errno != errno.EFBIG:
                    raise
                part.unlink()
                return None
            digest = _filled(target, source, runs, length)
            known = self._added.get(digest) or self._kept(digest)
            if known is not None:
                part.unlink()
                return known
            os.fsync(target)
        finally:
            os.close(target)
        part.rename(self._staging / digest)
        self._about["files"][digest] = [length, *identity(self._staging / digest)]
        made = Backed(_room(self._store) / self._key / digest, length, digest)
        self._added[digest] = made
        return made

    def known(self, path: Path) -> Backed | None:
        """A file of an earlier save, now kept; None if it is none, or not as it was written."""
        if path.parent.parent != _room(self._store):
            return None
        return self._kept(path.name)

    @property
    def files(self) -> list[Backed]:
        """What it adds to the room."""
        return list(self._added.values())

    @property
    def bytes(self) -> int:
        """What it adds to the disk, at most."""
        return sum(each.length for each in self.files)

    def _kept(self, digest: str) -> Backed | None:
        """What an earlier save wrote, now leased; None if there is none, or no longer."""
        known = self._known.get(digest)
        if known is None:
            return None
        key = known.path.parent.name
        if key not in self.keep:
            self.keep[key] = self._store.lease(ROOM, key)
        return known if known.path.exists() else None

    def __enter__(self) -> Batch:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if kind is None and not self._added:
            kind, error = _Nothing, _Nothing()
        self._publishing.__exit__(kind, error, trace)


class _Nothing(Exception):
    """Leaves a publication without one."""


def of(store: Store, paths: Iterable[str | Path]) -> list[Backed]:
    """Which of these files are in the room; raises SnapshotCorrupt if one is there no more."""
    room = _room(store)
    found = {}
    for path in map(Path, paths):
        if path.parent.parent == room:
            found[path] = Backed(path, _note(store, path)[0], path.name)
    return [found[path] for path in sorted(found)]


def hold(store: Store, paths: Iterable[str | Path]) -> list[Lease]:
    """Leases on the entries these files are in."""
    room = _room(store)
    keys = {path.parent.name for path in map(Path, paths) if path.parent.parent == room}
    return [store.lease(ROOM, key) for key in sorted(keys)]


def collect(store: Store, used: set[str]) -> int:
    """Remove the entries that are not in `used` and that nobody leases; returns how many."""
    unused = (entry.key for entry in store.entries(ROOM) if entry.key not in used)
    removed = sum(store.remove(ROOM, key) for key in unused)
    store.retire_leases(ROOM)  # a save that added no file took one too
    return removed


def verify(store: Store, files: Iterable[Backed], *, thorough: bool = False) -> None:
    """Raise SnapshotCorrupt unless each file is what was written; `thorough` reads all of it."""
    for each in files:
        length, *noted = _note(store, each.path)
        try:
            same = noted == identity(each.path) and length == each.length
            if not same or thorough:
                _read_all(each)
        except OSError as error:
            raise _damaged(each.path, f"cannot be read ({error.strerror})") from error


def _room(store: Store) -> Path:
    # Without links, as a process names what it has mapped.
    return (store.root / ROOM).resolve()


def _known(store: Store) -> Iterator[tuple[str, Backed]]:
    """What is there and, as far as its note tells, as it was written."""
    for entry in store.entries(ROOM):
        files = entry.about.get("files", {})
        for digest, (length, *noted) in files.items():
            path = _room(store) / entry.key / digest
            with contextlib.suppress(OSError):
                if identity(path) == noted:
                    yield digest, Backed(path, length, digest)


def _filled(target: int, source: int, runs: Iterable[tuple[int, int, int]], length: int) -> str:
    sha = hashlib.sha256()
    at = 0
    for start, size, offset in runs:
        _update_with_zeros(sha, start - at)
        for done in range(0, size, _BLOCK):
            block = os.pread(source, min(_BLOCK, size - done), offset + done)
            if len(block) < min(_BLOCK, size - done):
                raise SnapshotCorrupt("CRIU's pages are cut off.", remedy="Save again.")
            sha.update(block)
            _write(target, block, start + done)
        at = start + size
    _update_with_zeros(sha, length - at)
    return sha.hexdigest()


def _write(target: int, block: bytes, at: int) -> None:
    rest = memoryview(block)
    while rest:
        count = os.pwrite(target, rest, at)
        rest, at = rest[count:], at + count


def _update_with_zeros(sha: Any, count: int) -> None:
    zeros = bytes(min(count, _BLOCK))
    while count > 0:
        sha.update(zeros[:count])
        count -= len(zeros)


def _read_all(file: Backed) -> None:
    sha = hashlib.sha256()
    opened = os.open(file.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        for at in range(0, file.length, _BLOCK):
            sha.update(os.pread(opened, min(_BLOCK, file.length - at), at))
        if sha.hexdigest() != file.digest or os.fstat(opened).st_size != file.length + TAIL:
            raise _damaged(file.path, "is not what was written")
        try:
            os.lseek(opened, file.length, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:  # which says: only a hole from here on
                raise
        else:
            raise _damaged(file.path, "is not what was written")
    finally:
        os.close(opened)


def identity(path: Path) -> list[int]:
    """What changes when a file is written to or replaced."""
    status = path.lstat()
    return [status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns]


def _note(store: Store, path: Path) -> list[int]:
    entry = store.get(ROOM, path.parent.name)
    files: Mapping[str, list[int]] = entry.about.get("files", {}) if entry else {}
    if path.name not in files:
        raise _damaged(path, "is gone")
    return files[path.name]


def _damaged(path: Path, how: str) -> SnapshotCorrupt:
    return SnapshotCorrupt(
        f"The file {path.name[:12]}… with memory of the snapshot {how}.",
        remedy="Delete the snapshot and save it again.",
    )
