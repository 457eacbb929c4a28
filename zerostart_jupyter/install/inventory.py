"""What the cache holds for installs, and taking away what nobody needs any more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from zerostart_jupyter.core.store import Entry, Store, size
from zerostart_jupyter.install import activation, answers

_WHEELS = "wheels"
DAY = 86400.0


@dataclass(frozen=True, slots=True)
class Item:
    """An environment or a wheel of the cache. `bytes` are on disk; `used` and `created` are
    seconds since the epoch. A file that both have counts for both."""

    kind: str
    key: str
    name: str
    bytes: int
    created: float
    used: float

    def as_json(self) -> Mapping[str, Any]:
        """What `zerostart cache list --json` prints for it."""
        return {
            "kind": self.kind,
            "key": self.key,
            "name": self.name,
            "bytes": self.bytes,
            "created": self.created,
            "used": self.used,
        }


def inventory(store: Store) -> list[Item]:
    """Environments, then wheels, each oldest first."""
    return [
        *(_environment(each) for each in store.entries(activation.ROOM)),
        *(_wheel(each) for each in store.entries(_WHEELS)),
    ]


def prune(store: Store, *, days: float) -> tuple[int, int]:
    """Remove environments not used for `days`, wheels and answers that no environment needs and
    that are as old, and what crashed work left. Returns how many entries, and the bytes freed.

    What a running process uses stays.
    """
    before = size(store.root)
    removed = store.sweep()
    now = time.time()
    limit = now - days * DAY
    needed: set[str] = set()
    for entry in store.entries(activation.ROOM):
        if _passed(_used(entry), now) <= limit and store.remove(activation.ROOM, entry.key):
            removed += 1
        else:
            needed.update(sha256 for _, _, sha256 in entry.about.get("distributions", []))
    for room in (_WHEELS, answers.ROOM):
        for entry in store.entries(room):
            if _passed(entry.created, now) <= limit and entry.key not in needed:
                removed += store.remove(room, entry.key)
    return removed, max(0, before - size(store.root))


def _passed(moment: float, now: float) -> float:
    """A moment, or now if it is still to come: the clock was wrong then, or is."""
    return min(moment, now)


def _environment(entry: Entry) -> Item:
    names = [name for name, _, _ in entry.about.get("distributions", [])]
    shown = ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
    return Item("environment", entry.key, shown, size(entry.path), entry.created, _used(entry))


def _wheel(entry: Entry) -> Item:
    name = str(entry.about.get("wheel", ""))
    return Item("wheel", entry.key, name, size(entry.path), entry.created, entry.created)


def _used(entry: Entry) -> float:
    return activation.last_used(entry.path) or entry.created
