"""Snapshots made elsewhere: bringing one back runs code that its maker chose."""

from __future__ import annotations

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot.catalog import Catalog, SnapshotInfo


def require(catalog: Catalog, info: SnapshotInfo, given: bool = False) -> None:
    """Raise SnapshotRefused for an imported snapshot that nobody has said to trust.

    A yes is remembered with the snapshot.
    """
    if info.trusted:
        return
    if not given:
        raise SnapshotRefused(
            f"Snapshot {info.name!r} was imported: restoring it runs whatever code is in it.",
            remedy="If you trust who made it, `%zs_snapshot restore NAME --trust` it once.",
        )
    catalog.amend(info.id, trusted=True)
