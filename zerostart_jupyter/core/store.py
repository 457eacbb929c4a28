"""Directories that are either absent or whole: published by rename, locked, leased, collected.

Layout below the root, each directory 0700:

    locks/                    one file a lock or lease; the last holder of a lease may remove it
    <room>/<key>/             an entry; `entry.json` in it is its marker
    <room>/.staging-*/        work in progress; removed by `sweep()` once its maker is gone
    <room>/<key>/ unmarked    an entry that is still being built in place, or a crashed one

The rooms are `wheels`, `partial`, `locked`, `environments`, `models`, `snapshots`, `memory`,
`tools`, `probes`. An entry exists once its marker does, and the marker appears by a rename: a
crash leaves nothing that looks finished.

Who is alive is told by flock(2) and never by pid: restored kernels live in pid namespaces of
their own and share this cache with everybody else.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.flocks import Flock

MARKER = "entry.json"
ROOMS = (
    *("wheels", "partial", "locked", "environments", "models"),
    *("snapshots", "memory", "tools", "probes"),
)
POLL = 0.05  # seconds between two tries for a lock that somebody holds
PATIENCE = 30.0  # seconds to wait for somebody who holds an entry only shortly
KEEP_PARTIAL = 7 * 24 * 3600.0  # seconds for which half a download may still be resumed

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")
_STAGING = ".staging-"


@dataclass(frozen=True, slots=True)
class Entry:
    """A published directory with what its marker says. `created` is seconds since the epoch."""

    room: str
    key: str
    path: Path
    created: float
    about: Mapping[str, Any]


class Lease:
    """Holds an entry against removal until closed or until the process, and its forks, end."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor: int | None = descriptor

    def close(self) -> None:
        """Give the entry free; a second call does nothing."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> Lease:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Store:
    """The cache directory. Safe to use from several processes at once."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with _usable(root):
            for folder in (root, *(root / room for room in ("locks", *ROOMS))):
                folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            if root.stat().st_uid != os.geteuid():
                raise StoreError(
                    f"The cache {root} belongs to another user.",
                    remedy="Set ZEROSTART_CACHE to a directory of your own.",
                )
        self._staged: dict[Path, Flock] = {}

    def path(self, room: str, key: str) -> Path:
        """Where an entry is, or would be."""
        if room not in ROOMS:
            raise ValueError(f"no room {room!r}")
        if not _KEY.fullmatch(key):
            raise ValueError(f"not a key: {key!r}")
        return self.root / room / key

    def get(self, room: str, key: str) -> Entry | None:
        """The entry, or None if it was never published or its marker cannot be read."""
        path = self.path(room, key)
        try:
            # Unbuffered: a room may have thousands of markers, each of a few hundred bytes.
            with open(os.path.join(path, MARKER), "rb", buffering=0) as stream:
                body = json.loads(stream.read())
            return Entry(room, key, path, float(body["created"]), dict(body["about"]))
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def entries(self, room: str) -> list[Entry]:
        """All entries of a room, oldest first."""
        if room not in ROOMS:
            raise ValueError(f"no room {room!r}")
        names = [name for name in self._names(room) if _KEY.fullmatch(name)]
        found = [entry for name in names if (entry := self.get(room, name)) is not None]
        return sorted(found, key=lambda entry: entry.created)

    @contextlib.contextmanager
    def publish(self, room: str, key: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Give a staging directory; on a clean exit it becomes the entry, else it is removed.

        If somebody published the same key meanwhile, theirs stays. `about` is read at the end,
        so it may be filled in on the way.
        """
        final = self.path(room, key)
        staging = self.stage(room)
        try:
            yield staging
            with _usable(self.root):
                _mark(staging, about)
            self.adopt(staging, final)
        finally:
            self.discard(staging)

    @contextlib.contextmanager
    def build(self, room: str, key: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Fill an entry in its final place, its marker last: for what is used while it grows.

        The caller holds the lock that keeps a second builder out. A failed build stays, unmarked,
        for the next builder to finish or for `sweep()` to collect; one that was marked before
        loses its marker until it is whole again. `about` is read at the end.
        """
        path = self.path(room, key)
        with self.lease(room, key):
            with _usable(self.root):
                path.mkdir(parents=True, exist_ok=True, mode=0o700)
                (path / MARKER).unlink(missing_ok=True)
            yield path
            with _usable(self.root):
                _mark(path, about)

    def stage(self, room: str) -> Path:
        """A fresh staging directory in a room, which the caller adopts or discards.

        A sweep leaves it alone while this process lives.
        """
        with _usable(self.root):
            while True:
                staging = self.root / room / f"{_STAGING}{os.urandom(16).hex()}"
                staging.mkdir(parents=True, mode=0o700)
                # A sweep may have come between the two: then it holds the lock, or it is gone.
                with contextlib.suppress(FileNotFoundError):
                    held = Flock.on_directory(staging)
                    if held is not None and staging.exists():
                        self._staged[staging] = held
                        return staging
                    if held is not None:
                        held.release()

    def discard(self, staging: Path) -> None:
        """Remove a staging directory; does nothing if it was adopted."""
        _remove_tree(staging)
        self._unstage(staging)

    def adopt(self, staging: Path, final: Path) -> bool:
        """Rename staging to its final place; False if somebody was faster.

        A directory without a readable marker in that place is wreckage and makes way, unless
        somebody is building in it: then StoreError.
        """
        room, key = final.parent.name, final.name
        deadline = time.monotonic() + PATIENCE
        while True:
            with _usable(self.root):
                try:
                    staging.rename(final)
                    self._unstage(staging)
                    return True
                except OSError as error:
                    if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                        raise
            if self.get(room, key) is not None:
                return False
            if not self._remove(room, key, unmarked=True):
                if time.monotonic() > deadline:
                    raise StoreError(
                        f"Another process is still building {room}/{key}.",
                        remedy="Wait for it, or end it, and run this again.",
                    )
                time.sleep(POLL)

    @contextlib.contextmanager
    def lock(
        self, name: str, *, timeout: float | None = None, check: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold the named lock; it is freed when its holder ends, however it ends.

        Not reentrant. `check` is called while waiting and may raise to give up. Raises StoreError
        after `timeout` seconds.
        """
        deadline = None if timeout is None else time.monotonic() + timeout
        while (held := self.try_lock(name)) is None:
            check()
            if deadline is not None and time.monotonic() > deadline:
                raise StoreError(
                    f"Another process has held {name} for {timeout:.0f} s.",
                    remedy="Wait for it, or end it, and run this again.",
                )
            time.sleep(POLL)
        try:
            yield
        finally:
            held.release()

    def try_lock(self, name: str) -> Flock | None:
        """The named lock, to be released by the caller; None if somebody else holds it."""
        if not _KEY.fullmatch(name):
            raise ValueError(f"not a lock's name: {name!r}")
        with _usable(self.root):
            return Flock.on_file(self._lock_file(name))

    def idle(self, name: str) -> float:
        """Seconds since the named lock was made or touched; 0 if there is none."""
        return _age(self._lock_file(name))

    def lease(self, room: str, key: str) -> Lease:
        """Keep an entry from removal while the lease is held: take it first, then look.

        Forked children hold it too.
        """
        self.path(room, key)
        path = self._lock_file(f".{room}-{key}")
        while True:
            with _usable(self.root):
                held = Flock.on_file(path, shared=True)
            if held is not None:
                return Lease(held.detach())
            time.sleep(POLL)  # a removal in progress holds it shortly

    def remove(self, room: str, key: str) -> bool:
        """Remove an entry; False if it is leased or not there."""
        return self._remove(room, key)

    def sweep(self) -> int:
        """Remove what crashed work left behind; returns how many directories.

        That is the staging of processes that are gone, and unmarked entries nobody leases; half
        a download is kept for a week, for who wants to resume it.
        """
        removed = 0
        for room in ROOMS:
            for name in self._names(room):
                path = self.root / room / name
                if name.startswith(_STAGING):
                    removed += _bury(path)
                elif _KEY.fullmatch(name) and self.get(room, name) is None:
                    if room == "partial" and _age(path) < KEEP_PARTIAL:
                        continue
                    removed += self._remove(room, name, unmarked=True)
        return removed

    def retire_leases(self, room: str) -> int:
        """Remove the files of leases on what is not there, and that nobody holds; how many."""
        removed = 0
        for path in (self.root / "locks").glob(f".{room}-*"):
            key = path.name.removeprefix(f".{room}-")
            with _usable(self.root):
                held = None if self.path(room, key).exists() else Flock.on_file(path)
            if held is not None:
                held.retire(path)
                removed += 1
        return removed

    def _remove(self, room: str, key: str, *, unmarked: bool = False) -> bool:
        path = self.path(room, key)
        lease = self._lock_file(f".{room}-{key}")
        with _usable(self.root):
            held = Flock.on_file(lease)
            if held is None:
                return False
            grave = self.stage(room)
            try:
                # Whoever built it may have finished before we had the lock.
                if unmarked and self.get(room, key) is not None:
                    return False
                path.rename(grave / "removed")
                held.retire(lease)
                return True
            except FileNotFoundError:
                return False
            finally:
                held.release()
                self.discard(grave)

    def _names(self, room: str) -> list[str]:
        try:
            return os.listdir(self.root / room)
        except FileNotFoundError:
            return []

    def _lock_file(self, name: str) -> Path:
        # Leases begin with a dot, which no lock's name can: the two never meet in one file.
        return self.root / "locks" / name

    def _unstage(self, staging: Path) -> None:
        held = self._staged.pop(staging, None)
        if held is not None:
            held.release()


def size(path: Path) -> int:
    """Bytes on disk below a directory, each hard-linked file counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            with contextlib.suppress(FileNotFoundError):  # removed meanwhile
                status = os.lstat(os.path.join(folder, name))
                if (status.st_dev, status.st_ino) not in seen:
                    seen.add((status.st_dev, status.st_ino))
                    total += status.st_blocks * 512
    return total


@contextlib.contextmanager
def _usable(root: Path) -> Iterator[None]:
    try:
        yield
    except StoreError:
        raise
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        raise StoreError(
            f"The cache {root} cannot be used: {error.strerror or error}.",
            remedy="Make room with `zerostart cache prune`, or move it with ZEROSTART_CACHE."
            if full
            else "Set ZEROSTART_CACHE to a directory you can write to.",
        ) from error


def _mark(path: Path, about: Mapping[str, Any]) -> None:
    part = path / f".{MARKER}.part"
    part.write_text(json.dumps({"created": time.time(), "about": dict(about)}))
    part.replace(path / MARKER)


def _remove_tree(folder: Path) -> None:
    import shutil  # with every kind of archive: a warm `run` does without

    shutil.rmtree(folder, ignore_errors=True)


def _bury(staging: Path) -> bool:
    """Remove a staging directory unless its maker lives."""
    try:
        held = Flock.on_directory(staging)
    except OSError:
        return False
    if held is None:
        return False
    _remove_tree(staging)
    held.release()
    return not staging.exists()


def _age(path: Path) -> float:
    try:
        # What is from the future has as long to go: a clock that was wrong keeps nothing for ever.
        return abs(time.time() - path.stat().st_mtime)
    except OSError:
        return 0.0
