"""Brings a portable snapshot back into a shell: a live kernel's, or a fresh one's."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.wording import seconds as in_seconds
from zerostart_jupyter.snapshot import cell_times, estimate, procfs, revival
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, SnapshotInfo
from zerostart_jupyter.snapshot.portable import reading
from zerostart_jupyter.snapshot.portable.description import Description


@dataclass(frozen=True, slots=True)
class Again:
    """What was brought back: so many `names` in `seconds`; `missing` were never saved."""

    name: str
    names: int
    seconds: float
    missing: tuple[tuple[str, str], ...]
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        took = in_seconds(self.seconds)
        lines = [f"Restored snapshot {self.name!r}: {self.names} names in {took}."]
        lines += [f"  not in it: {name}: {why}" for name, why in self.missing]
        lines += [f"  {note}" for note in self.notes]
        return "\n".join(lines)


def restore(
    info: SnapshotInfo, shell: Any, settings: Settings, *, fresh: bool, hub: Hub | None = None
) -> Again:
    """Have the shell's names be those of the snapshot; others of the user's are gone.

    A `fresh` shell goes on with its prompts, folder and extensions, too. Raises SnapshotRefused,
    SnapshotCorrupt and Cancelled with the shell untouched.
    """
    catalog = Catalog(settings)
    began = time.monotonic()
    with (
        operation("restore", info.name, hub=hub) as work,
        catalog.store.lease(ROOM, info.id),
    ):
        done = 0

        def tell(count: int) -> None:
            nonlocal done
            done += count
            work.check()
            work.update("", done, info.bytes)

        description = Description.read(info.path, info.digest)
        found = reading.bring(description, info.path, shell, tell)
        found.give(shell, fresh=fresh)
    took = time.monotonic() - began
    revival.note_origin(info.id)
    cell_times.times().seconds = info.kernel_seconds
    cell_times.times().forget_running()
    if fresh:
        entry = catalog.store.get(ROOM, info.id)
        if entry is not None:
            estimate.remember(catalog.store, info.tier, entry.about, procfs.age())
    names = sum(name.isidentifier() for name in found.values)
    return Again(info.name, names, took, description.omitted, found.notes)


def check(info: SnapshotInfo) -> None:
    """Raise SnapshotRefused or SnapshotCorrupt if it cannot come back with this Python."""
    reading.check(Description.read(info.path, info.digest))
