"""Tells that the list of snapshots is another one, whoever has changed it: a cell, a shell, a tab.

A snapshot's marker is a new file whenever something else is said in it, so that a look is one
lstat(2) a snapshot.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import time
from collections.abc import Callable
from typing import Any

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.jupyter.server.following import Follower
from zerostart_jupyter.snapshot.catalog import ROOM

INTERVAL = 1.0  # seconds between two looks
PAUSE = 20  # times as long as a look took: a slow disk is asked less often

Emit = Callable[[dict[str, Any]], None]
Stamp = tuple[str, int, int]


class Listing(Follower):
    """Follows this user's snapshots; `emit` gets the data of `urn:zerostart:snapshots`."""

    def __init__(self, emit: Emit) -> None:
        self._emit = emit
        self._known: frozenset[Stamp] | None = None  # None before the first look

    async def look(self) -> None:
        """Tell if a snapshot came, went or was renamed since the last look."""
        before, self._known = self._known, await asyncio.to_thread(_stamps)
        if before not in (None, self._known):
            self._emit({"count": len(self._known)})

    async def _run(self) -> None:
        while True:
            began = time.monotonic()
            await self.look()
            await asyncio.sleep(max(INTERVAL, PAUSE * (time.monotonic() - began)))


def _stamps() -> frozenset[Stamp]:
    found = set()
    with contextlib.suppress(OSError), os.scandir(Settings.read().cache / ROOM) as entries:
        for entry in entries:
            with contextlib.suppress(OSError):
                marker = os.lstat(os.path.join(entry.path, MARKER))
                found.add((entry.name, marker.st_ino, marker.st_mtime_ns))
    return frozenset(found)
