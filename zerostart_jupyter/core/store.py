"""Directories that are either absent or whole: published by rename, locked, leased, collected.

Layout below the root, each directory 0700:

    locks/                    one file a lock or lease; never removed while anyone may hold it
    <room>/<key>/             an entry; `entry.json` in it is its marker
    <room>/.staging-*/        work in progress; removed by `sweep()` once its maker is gone
    <room>/<key>/ unmarked    an entry that is still being built in place, or a crashed one

The rooms are `wheels`, `partial`, `locked`, `environments`, `models`, `snapshots`, `tools`. An
entry exists once its marker does, and the marker appears by a rename: a crash leaves nothing that
looks finished.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import re
import shutil
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import StoreError

MARKER = "entry.json"
ROOMS = ("wheels", "partial", "locked", "environments", "models", "snapshots", "tools")
POLL = 0.05  # seconds between two tries for a lock that somebody holds

_KEY = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}")


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
        try:
            for room in ("locks", *ROOMS):
                (root / room).mkdir(parents=True, exist_ok=True, mode=0o700)
            if root.stat().st_uid != os.geteuid():
                raise StoreError(
                    f"The cache {root} belongs to another user.",
                    remedy="Set ZEROSTART_CACHE to a directory of your own.",
                )
        except StoreError:
            raise
        except OSError as error:
            raise StoreError(
                f"The cache {root} cannot be used: {error.strerror or error}.",
                remedy="Set ZEROSTART_CACHE to a directory you can write to.",
            ) from error

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
            body = json.loads((path / MARKER).read_text())
            return Entry(room, key, path, float(body["created"]), body["about"])
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def entries(self, room: str) -> list[Entry]:
        """All entries of a room, oldest first."""
        if room not in ROOMS:
            raise ValueError(f"no room {room!r}")
        names = [name for name in os.listdir(self.root / room) if _KEY.fullmatch(name)]
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
            body = {"created": time.time(), "about": dict(about)}
            (staging / MARKER).write_text(json.dumps(body))
            self.adopt(staging, final)
        finally:
            shutil.rmtree(staging, ignore_errors=True)

    @contextlib.contextmanager
    def build(self, room: str, key: str, about: Mapping[str, Any]) -> Iterator[Path]:
        """Fill an entry in its final place, its marker last: for what is used while it grows.

        The caller holds the lock that keeps a second builder out. A failed build stays, unmarked,
        for the next builder to finish or for `sweep()` to collect. `about` is read at the end.
        """
        path = self.path(room, key)
        with self.lease(room, key):
            path.mkdir(exist_ok=True, mode=0o700)
            yield path
            marker = path / f".{MARKER}.part"
            marker.write_text(json.dumps({"created": time.time(), "about": dict(about)}))
            marker.replace(path / MARKER)

    def stage(self, room: str) -> Path:
        """A fresh staging directory of this process in a room; the caller removes or adopts it."""
        staging = (
            self.root / room / f".staging-{os.getpid()}-{_born(os.getpid())}-{uuid.uuid4().hex[:8]}"
        )
        staging.mkdir(mode=0o700)
        return staging

    def adopt(self, staging: Path, final: Path) -> bool:
        """Rename staging to its final place; False if somebody was faster.

        A directory without a readable marker in that place is wreckage and makes way.
        """
        for _ in range(2):
            try:
                staging.rename(final)
                return True
            except OSError as error:
                if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                    raise
            if self.get(final.parent.name, final.name) is not None:
                return False
            shutil.rmtree(final, ignore_errors=True)
        return False

    @contextlib.contextmanager
    def lock(
        self, name: str, *, timeout: float | None = None, check: Callable[[], None] = lambda: None
    ) -> Iterator[None]:
        """Hold the named lock; it is freed when its holder ends, however it ends.

        `check` is called while waiting and may raise to give up. Raises StoreError after
        `timeout` seconds.
        """
        descriptor = self._open_lock(name)
        deadline = None if timeout is None else time.monotonic() + timeout
        try:
            while not _try_lock(descriptor, fcntl.LOCK_EX):
                check()
                if deadline is not None and time.monotonic() > deadline:
                    raise StoreError(
                        f"Another process holds {name} since {timeout:.0f} s.",
                        remedy="Wait for it, or end it, and run this again.",
                    )
                time.sleep(POLL)
            yield
        finally:
            os.close(descriptor)

    def lease(self, room: str, key: str) -> Lease:
        """Keep an entry from removal while the lease is held."""
        self.path(room, key)
        descriptor = self._open_lock(f"{room}-{key}")
        while not _try_lock(descriptor, fcntl.LOCK_SH):  # a removal in progress holds it shortly
            time.sleep(POLL)
        return Lease(descriptor)

    def remove(self, room: str, key: str) -> bool:
        """Remove an entry; False if it is leased or not there."""
        path = self.path(room, key)
        descriptor = self._open_lock(f"{room}-{key}")
        try:
            if not _try_lock(descriptor, fcntl.LOCK_EX) or not path.exists():
                return False
            grave = self.stage(room)
            path.rename(grave / "removed")
            shutil.rmtree(grave, ignore_errors=True)
            return True
        finally:
            os.close(descriptor)

    def sweep(self) -> int:
        """Remove what crashed work left behind; returns how many directories.

        That is the staging of processes that are gone, and unmarked entries nobody leases.
        """
        removed = 0
        for room in ROOMS:
            for name in os.listdir(self.root / room):
                parts = name.split("-")
                if name.startswith(".staging-") and len(parts) == 4:
                    if _born(int(parts[1])) != parts[2]:
                        shutil.rmtree(self.root / room / name, ignore_errors=True)
                        removed += 1
                elif _KEY.fullmatch(name) and self.get(room, name) is None:
                    removed += self.remove(room, name)
        return removed

    def _open_lock(self, name: str) -> int:
        if not _KEY.fullmatch(name):
            raise ValueError(f"not a lock's name: {name!r}")
        return os.open(self.root / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)


def size(path: Path) -> int:
    """Bytes on disk below a directory, each hard-linked file counted once."""
    seen: set[tuple[int, int]] = set()
    total = 0
    for folder, _, files in os.walk(path):
        for name in files:
            status = os.lstat(os.path.join(folder, name))
            if (status.st_dev, status.st_ino) not in seen:
                seen.add((status.st_dev, status.st_ino))
                total += status.st_blocks * 512
    return total


def _try_lock(descriptor: int, kind: int) -> bool:
    try:
        fcntl.flock(descriptor, kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _born(pid: int) -> str:
    """When a process started, in clock ticks since boot; "" if there is none.

    A pid alone may have been given to another process meanwhile. Field 22 of proc(5)'s stat.
    """
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return ""
    return stat.rpartition(")")[2].split()[19]
