"""A snapshot out of an export: every digest is checked before anything of it can be seen."""

from __future__ import annotations

import contextlib
import dataclasses
import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotNotFound, SnapshotRefused
from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import backing, images, manifest, tiers
from zerostart_jupyter.snapshot.catalog import Catalog, SnapshotInfo, fresh_id
from zerostart_jupyter.snapshot.exchange import blocks, folder, packed
from zerostart_jupyter.snapshot.exchange.folder import Folder
from zerostart_jupyter.snapshot.exchange.index import Content, Index
from zerostart_jupyter.snapshot.exchange.packed import Packed
from zerostart_jupyter.snapshot.portable.description import Description

_LARGEST = blocks.SIZE + (64 << 10)  # bytes of a packed block; zstd may add a little
_MEMORY = "memory/"


def import_(
    source: str | os.PathLike[str],
    name: str | None = None,
    *,
    trust: bool = False,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> SnapshotInfo:
    """Take a snapshot in, under the name it has or another; nothing of it runs.

    A restore runs code that its maker chose, and is refused until somebody has said to `trust` it,
    now or then. Raises SnapshotExists, SnapshotCorrupt, SnapshotRefused, SnapshotNotFound and
    Cancelled; nothing is left of it then.
    """
    catalog = Catalog(settings)
    path = Path(source).expanduser()
    with _open(path) as (place, index):
        wanted = name or index.name
        catalog.check(wanted)
        _fits(catalog, index)
        taken = {each.id for each in catalog.list()}
        key = fresh_id() if index.id in taken else index.id
        about = {**index.about, "name": wanted, "tier": index.tier, "trusted": trust}
        with (
            operation("import", wanted, hub=hub) as work,
            contextlib.ExitStack() as held,
            catalog.reserve(wanted),
            catalog.publish(key, about) as directory,
        ):
            # What it leases is held until the published marker names it.
            _Import(catalog, place, index, key, work).into(directory, about, held)
    return catalog.get(key)


class _Import:
    def __init__(
        self, catalog: Catalog, place: Packed | Folder, index: Index, key: str, work: Operation
    ) -> None:
        self._catalog = catalog
        self._place = place
        self._index = index
        self._key = key
        self._work = work
        self._done = 0

    def into(self, directory: Path, about: dict[str, Any], held: contextlib.ExitStack) -> None:
        """Fill a snapshot's directory and its marker."""
        about["bytes"] = self._index.total
        for each in self._index.contents:
            self._write(each, directory / each.path)
        if self._index.tier == tiers.PORTABLE:
            Description.read(directory, about.get("digest"))
            return
        about |= self._settle(directory, about.get("digest"), held)

    def _write(self, content: Content, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as stream:
            for name, length in content.lengths():
                self._work.check()
                stream.write(blocks.checked(self._place.get(name, _LARGEST), name, length))
                self._done += length
                self._work.update("", self._done, self._index.total)

    def _settle(
        self, directory: Path, sha256: str | None, held: contextlib.ExitStack
    ) -> dict[str, Any]:
        """Have the memory of processes lie where files with memory lie here."""
        found = manifest.Manifest.read(directory, sha256)
        into = directory / manifest.IMAGES
        manifest.verify(found, into, thorough=True)
        moved, memory = {}, {}
        with backing.Batch(self._catalog.store, self._key) as batch:
            for text, (length, digest) in found.memory.items():
                backed = self._memory(directory / _MEMORY / digest, length, batch)
                if backed.digest != digest:
                    raise blocks.corrupt("memory of a process is not what was written")
                moved[text] = str(backed.path)
                memory[str(backed.path)] = (length, digest)
            for lease in batch.keep.values():
                held.callback(lease.close)
        shutil.rmtree(directory / _MEMORY, ignore_errors=True)
        if moved:
            images.move(into, moved)
        written = dataclasses.replace(
            found,
            id=self._key,
            memory=memory,
            digests=manifest.digests(into),
            noted=manifest.note(into),
        ).write(directory)
        return {
            "digest": written,
            "memory": sorted({Path(text).parent.name for text in memory}),
        }

    def _memory(self, path: Path, length: int, batch: backing.Batch) -> backing.Backed:
        try:
            opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise blocks.corrupt("memory of a process is missing") from error
        try:
            made = batch.add(opened, [(0, length, 0)], length)
        finally:
            os.close(opened)
        if made is None:
            raise SnapshotRefused(
                "The cache's file system cannot hold memory of processes.",
                remedy="Set ZEROSTART_CACHE to a directory on ext4 or xfs.",
            )
        return made


@contextlib.contextmanager
def _open(path: Path) -> Iterator[tuple[Packed | Folder, Index]]:
    try:
        with path.open("rb") as stream:
            magic = stream.read(len(packed.MAGIC))
    except OSError as error:
        raise SnapshotNotFound(
            f"{path} cannot be read: {error.strerror}.", remedy="Give the file of an export."
        ) from error
    if magic == folder.MAGIC:
        with Folder.open(path) as opened:
            yield opened
    else:
        with Packed.open(path) as opened:
            yield opened


def _fits(catalog: Catalog, index: Index) -> None:
    free = shutil.disk_usage(catalog.store.root).free
    # Memory is written twice on its way into the cache.
    needed = index.total + sum(
        each.bytes for each in index.contents if each.path.startswith(_MEMORY)
    )
    if needed > free:
        raise SnapshotRefused(
            f"It takes {size(needed)}, and {size(free)} are free.",
            remedy="Make room with `zerostart cache prune`, or set ZEROSTART_CACHE.",
        )
