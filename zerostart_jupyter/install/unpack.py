"""One wheel into the store: staged, written, checked, published."""

from __future__ import annotations

import contextlib
import json
import os
import stat
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import wheel as rules
from zerostart_jupyter.install.archive import Member
from zerostart_jupyter.install.entry_points import programs
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.inflate import Run, split
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.wheel import SCRIPTS, SITE, Layout

ROOM = "wheels"
_MANIFEST = "manifest.json"
TREE = "tree"


@dataclass(frozen=True, slots=True)
class StoredWheel:
    """A wheel that was checked and published.

    `files` are places (`site/numpy/__init__.py`) with size in bytes and mtime in nanoseconds;
    `requires` is what its METADATA says that it needs, unparsed.
    """

    path: Path
    dist_info: str
    files: Mapping[str, tuple[int, int]]
    names: ImportNames
    requires: tuple[str, ...]

    @property
    def tree(self) -> Path:
        """Where its files are."""
        return self.path / TREE


def stored(store: Store, sha256: str) -> StoredWheel | None:
    """The wheel of this digest, or None if the store does not have it."""
    path = store.path(ROOM, sha256)
    try:
        body = json.loads((path / _MANIFEST).read_bytes())
        files = {place: (size, mtime) for place, (size, mtime) in body["files"].items()}
        names = {root: frozenset(below) for root, below in body["names"].items()}
        requires = tuple(body["requires"]) if "requires" in body else _requires(path, body)
        found = StoredWheel(path, body["dist_info"], files, ImportNames(names), requires)
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return found if store.get(ROOM, sha256) is not None else None


def _requires(path: Path, body: Mapping[str, Any]) -> tuple[str, ...]:
    """Of a wheel that was published before its manifest had them."""
    data = (path / TREE / SITE / body["dist_info"] / "METADATA").read_bytes()
    return rules.read_metadata(data, body["dist_info"]).requires


class Unpacking:
    """A wheel's staging directory, from its first member to its publication.

    `runs` are to be fed in any order, each by one thread; then `publish()`, or else `abandon()`.
    """

    def __init__(
        self, store: Store, locked: Locked, members: Sequence[Member], layout: Layout
    ) -> None:
        self.layout = layout
        self._locked = locked
        self._about: dict[str, Any] = {
            "name": locked.name,
            "version": locked.version,
            "wheel": locked.wheel,
        }
        self._stack = contextlib.ExitStack()
        self._staging = self._stack.enter_context(store.publish(ROOM, locked.sha256, self._about))
        self._store = store
        self._tree = self._staging / TREE
        self._root = f"{self._tree}/"
        # Programs are meant to be run, whatever their bits say.
        self._members = [
            replace(each, mode=each.mode | 0o111)
            if layout.places.get(each.name, "").startswith(f"{SCRIPTS}/")
            else each
            for each in members
        ]
        self.runs = [Run(group, self._path, locked.wheel) for group in split(self._members)]
        try:
            self._make_folders()
        except BaseException:
            self.abandon()
            raise

    def take(self, content: Callable[[Member], Path]) -> None:
        """Give contents that were unpacked elsewhere on this file system their names."""
        for member in self._members:
            path = self._path(member)
            if path is None:
                continue
            file = content(member)
            if member.executable:  # who may read it may run it
                mode = stat.S_IMODE(file.stat().st_mode)
                file.chmod(mode | (mode & 0o444) >> 2)
            file.rename(path)

    def publish(self) -> StoredWheel:
        """Check what was written against the format's rules, and give it its place in the store.

        Raises WheelRejected, with nothing published.
        """
        metadata = rules.check_metadata(self._read("METADATA"), self.layout)
        rules.check_tags(self._read("WHEEL"), self.layout)
        rules.check_record(self._read("RECORD"), self.layout)
        if self.layout.member("entry_points.txt") in self.layout.places:
            programs(self._read("entry_points.txt"), self.layout.wheel)
        files = {}
        for place in self.layout.places.values():
            status = os.stat(self._root + place)
            files[place] = (status.st_size, status.st_mtime_ns)
        names = self.layout.names
        body = {
            "dist_info": self.layout.dist_info,
            "files": files,
            "names": {root: sorted(below) for root, below in names.roots.items()},
            "requires": metadata.requires,
        }
        (self._staging / _MANIFEST).write_text(json.dumps(body, separators=(",", ":")))
        self._about["bytes"] = sum(size for size, _ in files.values())
        self._stack.close()
        path = self._store.path(ROOM, self._locked.sha256)
        return StoredWheel(path, self.layout.dist_info, files, names, metadata.requires)

    def abandon(self) -> None:
        """Remove what was written; a second call, or one after `publish()`, does nothing."""
        for run in self.runs:
            run.close()
        with contextlib.suppress(_Abandoned):
            self._stack.__exit__(_Abandoned, _Abandoned(), None)

    def _path(self, member: Member) -> str | None:
        place = self.layout.places.get(member.name)  # none for a directory
        return None if place is None else self._root + place

    def _read(self, file: str) -> bytes:
        return (self._tree / SITE / self.layout.dist_info / file).read_bytes()

    def _make_folders(self) -> None:
        folders = {""}
        for place in self.layout.places.values():
            folder = place.rpartition("/")[0]
            while folder not in folders:
                folders.add(folder)
                folder = folder.rpartition("/")[0]
        for folder in sorted(folders):  # a parent comes before what is in it
            os.mkdir(self._root + folder)


class _Abandoned(Exception):
    """Tells the store's context that there is nothing to publish."""
