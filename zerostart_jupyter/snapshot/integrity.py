"""`verify()`: every byte of a snapshot against its digests.

A restore checks as much as keeps it quick: of the files that hold memory, inode, size and times,
which whoever writes to them changes, and their digests only where those differ (see `backing`); of
all other images the digest, before any restored process runs. What that cannot see is a disk that
returns other data than was written, without an error; this can.
"""

from __future__ import annotations

from pathlib import Path

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import backing, manifest, tiers
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, SnapshotInfo
from zerostart_jupyter.snapshot.portable.description import FOLDER, Description
from zerostart_jupyter.snapshot.portable.verified import Verified


def verify(name: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """The snapshot, after all of it was read; raises SnapshotNotFound or SnapshotCorrupt."""
    catalog = Catalog(settings)
    found = catalog.get(name)
    with catalog.store.lease(ROOM, found.id):
        if found.tier == tiers.PORTABLE:
            described = Description.read(found.path, found.digest)
            for name, digest in described.digests.items():
                with Verified.open(found.path / FOLDER / name, digest):
                    pass
            return found
        said = found.manifest()
        manifest.verify(said, found.images, thorough=True)
        files = [backing.Backed(Path(path), *of) for path, of in said.memory.items()]
        backing.verify(catalog.store, files, thorough=True)
    return found
