"""Models kept near: bytes alone, never modules, each file keyed by what it was when it was read.

An entry is one file in the store's room for models: a copy of a file on a network file system, a
download from an address, or a conversion. What the hub has is kept in the hub's own cache.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import CheckpointNotFound, LoadError
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER, Entry, Store, size
from zerostart_jupyter.load import filesystem
from zerostart_jupyter.load.arriving import Arriving
from zerostart_jupyter.load.copying import FileOrigin
from zerostart_jupyter.load.places import ROOM, Kept, in_store

GIB = 1 << 30
RESERVE = GIB  # bytes of the disk that are left to others
_PIN = "pinned"
_LOCK = "models-kept"  # who pins or evicts holds it


@dataclass(frozen=True, slots=True)
class CacheEntry:
    """One file that is kept. `kind` is copy, address or conversion, `source` where it came from.

    `created` and `used` are seconds since the epoch; `bytes` are on disk.
    """

    key: str
    kind: str
    source: str
    path: Path
    bytes: int
    created: float
    used: float
    pinned: bool

    def as_json(self) -> dict[str, Any]:
        """A plain object."""
        return {**asdict(self), "path": str(self.path)}


class ModelCache:
    """What is kept of models on this machine. Safe to use from several processes at once."""

    def __init__(
        self, directory: str | Path | None = None, *, settings: Settings | None = None
    ) -> None:
        self._settings = settings or Settings.read(
            cache=None if directory is None else Path(directory).expanduser().absolute()
        )
        self._store = Store(self._settings.cache)

    def list_entries(self) -> list[CacheEntry]:
        """All entries, the least recently used first."""
        found = [entry for each in self._store.entries(ROOM) if (entry := _entry(each)) is not None]
        return sorted(found, key=lambda entry: entry.used)

    @property
    def size_bytes(self) -> int:
        """Bytes of all entries together."""
        return sum(entry.bytes for entry in self.list_entries())

    def add(self, source: str | Path) -> CacheEntry:
        """Keep a copy of a file, pinned entries or not; returns at once if there is one.

        Raises CheckpointNotFound, LoadError where it does not fit.
        """
        path = _existing(source)
        copy = self.begin(path)
        if copy is None:
            raise LoadError(
                f"There is no room to keep {path}.",
                remedy="Raise ZS_MODEL_CACHE_GB, make room, or unpin what is not needed.",
            )
        if isinstance(copy, Arriving):
            with contextlib.closing(copy):
                copy.complete(self._settings.load_threads)
        else:
            copy.lease.close()
        found = self.get(path)
        if found is None:
            raise LoadError(f"The copy of {path} was removed at once.", remedy="Try it again.")
        return found

    def get(self, source: str | Path) -> CacheEntry | None:
        """The copy of a file as it is now, or None."""
        entry = self._store.get(ROOM, key_of(_existing(source)))
        return _entry(entry) if entry else None

    def pin(self, entry: CacheEntry | str) -> None:
        """Never evict this entry, by itself or by its key. Raises CheckpointNotFound."""
        with self._store.lock(_LOCK):
            (self._path(entry) / _PIN).touch()

    def unpin(self, entry: CacheEntry | str) -> None:
        """Let this entry be evicted again. Raises CheckpointNotFound."""
        with self._store.lock(_LOCK):
            (self._path(entry) / _PIN).unlink(missing_ok=True)

    def auto_evict(self, max_size_bytes: int) -> list[CacheEntry]:
        """Remove the least recently used until the rest has so many bytes; returns the removed.

        What is pinned, or just being opened, stays.
        """
        with self._store.lock(_LOCK):
            entries = self.list_entries()
            total = sum(entry.bytes for entry in entries)
            removed = []
            for entry in entries:
                if total <= max_size_bytes:
                    break
                if not entry.pinned and self._store.remove(ROOM, entry.key):
                    total -= entry.bytes
                    removed.append(entry)
            return removed

    def prune(self, *, days: float) -> list[CacheEntry]:
        """Remove what nobody used for so many days and nobody pinned; returns the removed."""
        limit = time.time() - days * 86400
        with self._store.lock(_LOCK):
            old = [each for each in self.list_entries() if each.used <= limit and not each.pinned]
            return [entry for entry in old if self._store.remove(ROOM, entry.key)]

    def remove(self, entry: CacheEntry | str) -> bool:
        """Remove one entry, pinned or not; False if it is just being opened or not there."""
        return self._store.remove(ROOM, _key(entry))

    def make_room(self, count: int) -> bool:
        """Evict until `count` more bytes fit the limit and the disk; False if they cannot."""
        limit = int(self._settings.model_cache_gb * GIB)
        if count > limit:
            return False
        self.auto_evict(limit - count)
        lacking = count + RESERVE - shutil.disk_usage(self._store.root).free
        if lacking > 0:
            self.auto_evict(max(0, self.size_bytes - lacking))
            lacking = count + RESERVE - shutil.disk_usage(self._store.root).free
        return lacking <= 0

    def begin(self, path: Path, check: Callable[[], None] = lambda: None) -> Arriving | Kept | None:
        """A copy that is whole, or one that comes as it is read; None where there is no room.

        The caller closes the one, and gives back the lease of the other.
        """
        identity = FileIdentity.of(path)
        key = key_of(path)
        if self._store.get(ROOM, key) is None and not self.make_room(identity.size):
            return None
        for old in self.list_entries():
            if old.source == str(path) and old.key != key and not old.pinned:
                self._store.remove(ROOM, old.key)  # what the file was before
        about = {"kind": "copy", "source": str(path), "bytes": identity.size}
        place = in_store(self._store, key, path.name, key, about, check)
        if isinstance(place, Kept):
            return place
        try:
            origin = FileOrigin(path, identity)
        except BaseException:
            place.release()
            raise
        return Arriving(place, origin, identity.size)

    def nearer(self, path: Path) -> Arriving | Kept | None:
        """What to read in the place of a file that is far away; None to read the file itself."""
        if self._settings.model_cache_gb == 0:
            return None
        with contextlib.suppress(OSError):
            here = filesystem.of_path(self._store.root)
            if filesystem.of_path(path).network and not here.network and not here.memory:
                return self.begin(path.resolve())
        return None

    def _path(self, entry: CacheEntry | str) -> Path:
        found = self._store.get(ROOM, _key(entry))
        if found is None:
            raise CheckpointNotFound(
                f"The model cache has no entry {_key(entry)}.", remedy="list_entries() shows them."
            )
        return found.path


def key_of(path: Path) -> str:
    """An entry's key: the file's path and identity, but for the device, which a mount changes."""
    identity = FileIdentity.of(path)
    told = f"{path}\n{identity.inode}\n{identity.size}\n{identity.mtime}"
    return "copy-" + sha256(told.encode("utf-8", "surrogateescape")).hexdigest()[:40]


def _existing(source: str | Path) -> Path:
    path = Path(source).expanduser().resolve()
    if not path.is_file():
        raise CheckpointNotFound(f"There is no file {path}.", remedy="Check the path.")
    return path


def _key(entry: CacheEntry | str) -> str:
    return entry.key if isinstance(entry, CacheEntry) else entry


def _entry(entry: Entry) -> CacheEntry | None:
    with contextlib.suppress(OSError, StopIteration):  # removed meanwhile
        path = next(_files(entry.path))
        return CacheEntry(
            entry.key,
            str(entry.about.get("kind", "")),
            str(entry.about.get("source", "")),
            path,
            size(entry.path),
            entry.created,
            max(entry.created, path.stat().st_atime),
            (entry.path / _PIN).exists(),
        )
    return None


def _files(folder: Path) -> Iterator[Path]:
    for name in sorted(os.listdir(folder)):
        if name not in (MARKER, _PIN):
            yield folder / name
