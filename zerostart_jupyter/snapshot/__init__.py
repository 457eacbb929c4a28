"""A kernel in, a kernel out: save a running kernel, bring it back, run it twice.

Importing this package costs next to nothing; each name is resolved on first use.
"""

from __future__ import annotations

import importlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerostart_jupyter.core.settings import Settings
    from zerostart_jupyter.snapshot.catalog import SnapshotInfo as SnapshotInfo
    from zerostart_jupyter.snapshot.clones import Clone as Clone
    from zerostart_jupyter.snapshot.clones import clone as clone
    from zerostart_jupyter.snapshot.exchange.exporting import Exported as Exported
    from zerostart_jupyter.snapshot.exchange.exporting import export as export
    from zerostart_jupyter.snapshot.exchange.importing import import_ as import_
    from zerostart_jupyter.snapshot.forked import auto as auto
    from zerostart_jupyter.snapshot.forked import undo as undo
    from zerostart_jupyter.snapshot.gpu.parking import park as park
    from zerostart_jupyter.snapshot.gpu.parking import wake as wake
    from zerostart_jupyter.snapshot.hooks import on_restored as on_restored
    from zerostart_jupyter.snapshot.in_place import restore as restore
    from zerostart_jupyter.snapshot.integrity import verify as verify
    from zerostart_jupyter.snapshot.save import Saved as Saved
    from zerostart_jupyter.snapshot.save import snapshot as snapshot
    from zerostart_jupyter.snapshot.tiers import capabilities as capabilities

_HOMES = {
    "SnapshotInfo": "catalog",
    "Clone": "clones",
    "clone": "clones",
    "Exported": "exchange.exporting",
    "export": "exchange.exporting",
    "import_": "exchange.importing",
    "auto": "forked",
    "undo": "forked",
    "park": "gpu.parking",
    "wake": "gpu.parking",
    "restore": "in_place",
    "on_restored": "hooks",
    "Saved": "save",
    "snapshot": "save",
    "capabilities": "tiers",
    "verify": "integrity",
}

__all__ = [*_HOMES, "delete", "gc", "pin", "publish", "rename", "show", "snapshots", "unpin"]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOMES[name]}"), name)


def snapshots(settings: Settings | None = None) -> list[SnapshotInfo]:
    """All snapshots of this user, oldest first; reads no image."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).list()


def show(name: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """The snapshot of this name or id; raises SnapshotNotFound."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).get(name)


def delete(name: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """Remove a snapshot and its kernelspec; kernels restored from it live on."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).delete(name)


def rename(old: str, new: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """Give a snapshot another name; raises SnapshotExists if it is taken."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).rename(old, new)


def pin(name: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """Keep a snapshot from being collected."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).pin(name)


def unpin(name: str, *, settings: Settings | None = None) -> SnapshotInfo:
    """Let a snapshot be collected again."""
    from zerostart_jupyter.snapshot.catalog import Catalog

    return Catalog(settings).pin(name, pinned=False)


def gc(
    *, keep_bytes: int | None = None, dry_run: bool = False, settings: Settings | None = None
) -> Sequence[SnapshotInfo]:
    """Remove what nobody needs and, oldest first, snapshots until the rest fits `keep_bytes`.

    Those that are pinned or published stay. Returns the snapshots that went, or would.
    """
    from zerostart_jupyter.snapshot.catalog import Catalog

    catalog = Catalog(settings)
    if keep_bytes is None:
        catalog.collect()
        return []
    return catalog.prune(limit=keep_bytes, dry_run=dry_run)


def publish(name: str, *, settings: Settings | None = None) -> Path:
    """Make a snapshot a kernel to choose; returns the folder of the kernelspec `zerostart-NAME`."""
    from zerostart_jupyter.snapshot import kernelspec
    from zerostart_jupyter.snapshot.catalog import Catalog

    found = Catalog(settings).get(name)
    return kernelspec.publish(found.name, found.id)
