"""Which cells can be undone, told in the status file after each cell.

Prompt numbers alone do not say which cell of a notebook is meant: those of an earlier kernel are
still in the file. Each comes with a checksum of what was run.
"""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.snapshot.hooks import on_restored, on_returned

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from zerostart_jupyter.snapshot.reach import Reach

_TOLD = 100  # of the cells that cannot be undone any more, so many of the last
_OFF = {"on": False, "bytes": 0, "cells": [], "gaps": [], "undone": []}


class UndoPoints:
    """Calls `tell` with what can be undone, whenever that has changed."""

    def __init__(self, shell: InteractiveShell, tell: Callable[[dict[str, Any]], None]) -> None:
        self._shell = shell
        self._tell = tell
        self._told: dict[str, Any] = _OFF
        self._forget: list[Callable[[], None]] = []

    def open(self) -> None:
        """Look after each cell from now on, and once now."""
        self._shell.events.register("post_run_cell", self._look)
        self._forget = [on_restored(self._look), on_returned(self._look)]
        self._look()

    def close(self) -> None:
        """Look no more."""
        self._shell.events.unregister("post_run_cell", self._look)
        while self._forget:
            self._forget.pop()()

    def _look(self, result: object = None) -> None:
        engine = sys.modules.get("zerostart_jupyter.snapshot.forked")
        found = _OFF if engine is None else self._state(engine.reach())
        if found != self._told:
            self._told = found
            self._tell(found)

    def _state(self, reach: Reach) -> dict[str, Any]:
        undone = [number for first, last in reach.undone for number in range(first, last + 1)]
        return {
            "on": reach.on,
            "bytes": reach.bytes,
            "cells": [[number, self._checksum(number)] for number in reach.cells],
            "gaps": [[number, self._checksum(number), why] for number, why in reach.gaps[-_TOLD:]],
            "undone": [[number, self._checksum(number)] for number in undone[-_TOLD:]],
        }

    def _checksum(self, number: int) -> int:
        history = self._shell.history_manager
        run = history.input_hist_raw if history else []
        return zlib.crc32(run[number].rstrip("\n").encode()) if number < len(run) else 0
