"""Turns changes of status files into events on Jupyter's event bus.

Reading is a look at every file's stamp a few times a second, in a thread: the runtime directory
may be on a slow disk, and the server's loop must not wait for it.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zerostart_jupyter.jupyter.server.changes import changes, gone
from zerostart_jupyter.jupyter.server.following import Follower
from zerostart_jupyter.jupyter.server.sources import Source, bury, find, sweep

INTERVAL = 0.2  # seconds between two looks: the most often the panel hears of one kernel
CLEANING = 5.0  # seconds between two looks for writers that ended

Emit = Callable[[dict[str, Any]], None]
Key = tuple[str, str]


class Watcher(Follower):
    """Follows the status files below `root`; `emit` gets the data of `urn:zerostart:activity`."""

    def __init__(self, root: Path, emit: Emit) -> None:
        self._root = root
        self._emit = emit
        self._known: dict[Key, Source] = {}
        self._stamps: dict[Key, tuple[int, int, int]] = {}

    @property
    def sources(self) -> list[Source]:
        """What has been told so far; a client that reads this and then the events misses none."""
        return list(self._known.values())

    async def look(self) -> None:
        """Read what changed since the last look, and tell of it."""
        found = await asyncio.to_thread(self._read)
        for key in [key for key in self._known if key not in self._stamps]:
            self._tell(self._known.pop(key), None)
        for key, source in found.items():
            before, self._known[key] = self._known.get(key), source
            self._tell(before, source)

    async def clean(self) -> None:
        """Remove what processes that ended have left behind."""
        for source in self.sources:
            await asyncio.to_thread(bury, source)
        await asyncio.to_thread(sweep, self._root)

    def _read(self) -> dict[Key, Source]:
        present: dict[Key, tuple[int, int, int]] = {}
        found: dict[Key, Source] = {}
        for each in find(self._root):
            key = (each.kernel, each.writer)
            present[key] = each.stamp
            if self._stamps.get(key) != each.stamp:
                source = each.read()
                if source is not None:
                    found[key] = source
        self._stamps = present
        return found

    def _tell(self, before: Source | None, after: Source | None) -> None:
        old = before.operations if before else []
        new = after.operations if after else []
        told = after or before
        if told is None:
            return
        data: dict[str, Any] = {"kernel": told.kernel, "writer": told.writer}
        points = after.undo if after else None
        if points != (before.undo if before else None):
            data["undo"] = points
        if old != new or "undo" in data:
            self._emit({**data, "events": changes(old, new), "gone": gone(old, new)})

    async def _run(self) -> None:
        cleaned = time.monotonic()
        while True:
            await self.look()
            if time.monotonic() - cleaned > CLEANING:
                await self.clean()
                cleaned = time.monotonic()
            await asyncio.sleep(INTERVAL)
