"""The snapshots of this user: unique names, listed without reading an image."""

from __future__ import annotations

import contextlib
import json
import math
import os
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import (
    SnapshotExists,
    SnapshotNotFound,
    SnapshotRefused,
    StoreError,
)
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER, Entry, Store
from zerostart_jupyter.snapshot import backing, estimate, kernelspec, markers
from zerostart_jupyter.snapshot.manifest import IMAGES, Manifest

ROOM = "snapshots"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


@dataclass(frozen=True, slots=True, repr=False)
class SnapshotInfo:
    """One line of the list.

    `created` in seconds since the epoch; `bytes` of its images, `gpu_bytes` of them from a GPU;
    `seconds` the save took, of which the kernel stood still for `frozen_seconds`;
    `kernel_seconds` its cells had run to come this far, which is what re-running them would take,
    `restore_seconds` what bringing it back is expected to take. `parent` names the snapshot the
    kernel was restored from, `environment` the digest of what was installed. One that is `pinned`
    or published is never collected; one that is not `trusted` was imported, and nobody has said
    yes to the code in it. `reason` says why it has its tier; `encrypted` whether clients of the
    kernel needed CURVE keys, as those of its clones then do.
    """

    name: str
    id: str
    tier: str
    created: float
    notebook: str | None
    bytes: int
    gpu_bytes: int
    parent: str | None
    seconds: float
    frozen_seconds: float
    kernel_seconds: float
    path: Path
    restore_seconds: float = 0.0
    kernelspec: str | None = None
    environment: str | None = None
    pinned: bool = False
    trusted: bool = True
    reason: str = ""
    digest: str | None = None
    encrypted: bool = False

    def as_json(self) -> dict[str, Any]:
        """A plain object."""
        return {name: getattr(self, name) for name in self.__slots__} | {"path": str(self.path)}

    def __repr__(self) -> str:
        import datetime

        from zerostart_jupyter.core.wording import size

        when = datetime.datetime.fromtimestamp(self.created).strftime("%Y-%m-%d %H:%M")
        notebook = f", {self.notebook}" if self.notebook else ""
        return f"Snapshot {self.name!r}: {size(self.bytes)}, {self.tier}, {when}{notebook}"

    @property
    def images(self) -> Path:
        """Where CRIU's files lie."""
        return self.path / IMAGES

    def more(self) -> dict[str, Any]:
        """What else there is to show of it; raises SnapshotCorrupt."""
        if self.tier == "portable":
            from zerostart_jupyter.snapshot.portable.description import Description

            described = Description.read(self.path, self.digest)
            return {
                "python": described.python,
                "machine": described.machine,
                "names": [name for name in described.names if name.isidentifier()],
                "omitted": [f"{name} ({why})" for name, why in described.omitted],
            }
        manifest = self.manifest()
        return {
            "criu": manifest.criu,
            "python": manifest.python,
            "machine": manifest.machine,
            "sockets": list(manifest.sockets),
        }

    def manifest(self) -> Manifest:
        """Everything else that is known; raises SnapshotCorrupt."""
        return Manifest.read(self.path, self.digest)


class Catalog:
    """The `snapshots` room of the store."""

    def __init__(self, settings: Settings | None = None) -> None:
        self.settings = settings or Settings.read()
        self.store = Store(self.settings.cache)

    def list(self) -> list[SnapshotInfo]:
        """All snapshots, oldest first."""
        entries = markers.entries(self.store, ROOM)
        names = {entry.key: str(entry.about.get("name")) for entry in entries}
        measured = estimate.Measured(self.store)
        found = (_info(entry, names, measured) for entry in entries)
        return [each for each in found if each is not None]

    def get(self, name: str) -> SnapshotInfo:
        """The snapshot of this name or id; raises SnapshotNotFound that names those there are."""
        found = self.list()
        for each in reversed(found):
            if name in (each.name, each.id):
                return each
        known = ", ".join(each.name for each in found[-8:])
        raise SnapshotNotFound(
            f"There is no snapshot {name!r}.",
            remedy=f"There are: {known}." if known else "Save one with `%zs_snapshot save NAME`.",
        )

    def check(self, name: str, *, replace: bool = False) -> None:
        """Raise unless a snapshot may be given this name."""
        if not _NAME.fullmatch(name):
            raise SnapshotRefused(
                f"A snapshot cannot be named {name!r}.",
                remedy="Use letters, digits, '.', '_' and '-', at most 64, the first not a sign.",
            )
        # Kernelspecs are found by their lower-case names.
        if not replace and any(each.name.lower() == name.lower() for each in self.list()):
            raise SnapshotExists(
                f"There is already a snapshot {name!r}.",
                remedy="Choose another name, or delete or rename that one.",
            )

    @contextlib.contextmanager
    def reserve(self, name: str, *, replace: bool = False) -> Iterator[None]:
        """Keep a name from everybody else; raises SnapshotExists if it is taken."""
        self.check(name, replace=replace)
        lock = contextlib.ExitStack()
        try:
            lock.enter_context(self.store.lock(f"snapshot-{name.lower()}", timeout=0))
        except StoreError as error:
            raise SnapshotExists(
                f"A snapshot {name!r} is just being saved.", remedy="Choose another name."
            ) from error
        with lock:
            self.check(name, replace=replace)
            yield

    @contextlib.contextmanager
    def publish(self, key: str, about: dict[str, Any]) -> Iterator[Path]:
        """Give a directory to fill; on a clean exit it is a snapshot, else nothing is left.

        The caller has the name reserved; others of that name go once this one is there.
        """
        uncollected = contextlib.ExitStack()
        with uncollected, self.store.publish(ROOM, key, about) as directory:
            (directory / IMAGES).mkdir(mode=0o700)
            yield directory
            uncollected.enter_context(self.store.lock(backing.ROOM))
        for each in self.list():
            if each.name.lower() == about["name"].lower() and each.id != key:
                self.store.remove(ROOM, each.id)
        self.collect()

    def collect(self) -> None:
        """Remove files of memory that no snapshot and no kernel needs any more."""
        with self.store.lock(backing.ROOM):
            entries = self.store.entries(ROOM)
            used = {key for entry in entries for key in entry.about.get("memory", ())}
            backing.collect(self.store, used)

    def delete(self, name: str) -> SnapshotInfo:
        """Remove a snapshot and its kernelspec; what was restored from it lives on."""
        found = self.get(name)
        kernelspec.withdraw(found.name, found.id)
        if not self.store.remove(ROOM, found.id):
            raise SnapshotRefused(
                f"Snapshot {found.name!r} is just being restored.", remedy="Try again in a moment."
            )
        self.collect()
        return found

    def rename(self, old: str, new: str) -> SnapshotInfo:
        """Give a snapshot another name; a published kernelspec follows."""
        found = self.get(old)
        if new == found.name:
            return found
        with self.reserve(new):
            self.amend(found.id, name=new)
        if kernelspec.withdraw(found.name, found.id):
            kernelspec.publish(new, found.id)
        return self.get(found.id)

    def amend(self, key: str, **changes: Any) -> None:
        """Change what a snapshot's marker says; raises SnapshotNotFound."""
        with self.store.lock("markers"):
            entry = self.store.get(ROOM, key)
            if entry is None:
                raise SnapshotNotFound("That snapshot is gone.", remedy="Somebody deleted it.")
            marker = entry.path / MARKER
            staging = marker.with_suffix(".part")
            about = dict(entry.about) | changes
            staging.touch(mode=0o600)
            staging.write_text(json.dumps({"created": entry.created, "about": about}))
            staging.replace(marker)

    def pin(self, name: str, pinned: bool = True) -> SnapshotInfo:
        """Keep a snapshot from being collected, or no longer."""
        self.amend(self.get(name).id, pinned=pinned)
        return self.get(name)

    def prune(self, *, limit: int, dry_run: bool = False) -> Sequence[SnapshotInfo]:
        """Remove the oldest until all take `limit` bytes at most; returns those removed.

        What is pinned, published, or just being restored stays.
        """
        found = self.list()
        total = sum(each.bytes for each in found)
        removed = []
        for each in found:
            if total <= limit:
                break
            if each.pinned or kernelspec.published(each.name, each.id):
                continue
            if not dry_run and not self.store.remove(ROOM, each.id):
                continue
            total -= each.bytes
            removed.append(each)
        self.collect()
        return removed


def fresh_id() -> str:
    """An id nothing else has."""
    return os.urandom(8).hex()


def _info(entry: Entry, names: dict[str, str], measured: estimate.Measured) -> SnapshotInfo | None:
    """What a marker says; None where it makes no sense, as that of a failing disk."""
    about = entry.about
    tier = str(about.get("tier", "process"))
    try:
        found = SnapshotInfo(
            name=str(about["name"]),
            id=entry.key,
            tier=tier,
            created=entry.created,
            notebook=about.get("notebook"),
            bytes=int(about.get("bytes", 0)),
            gpu_bytes=int(about.get("gpu_bytes", 0)),
            parent=names.get(about.get("parent") or ""),
            seconds=float(about.get("seconds", 0)),
            frozen_seconds=float(about.get("frozen_seconds", 0)),
            kernel_seconds=float(about.get("kernel_seconds", 0)),
            path=entry.path,
            restore_seconds=measured.seconds(tier, about),
            kernelspec=about.get("kernelspec"),
            environment=about.get("environment"),
            pinned=bool(about.get("pinned", False)),
            trusted=bool(about.get("trusted", True)),
            reason=str(about.get("reason", "")),
            digest=about.get("digest"),
            encrypted=bool(about.get("encrypted", False)),
        )
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return None
    times = (found.created, found.seconds, found.frozen_seconds, found.kernel_seconds)
    return found if math.isfinite(sum(times)) else None
