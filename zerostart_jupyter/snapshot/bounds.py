"""Undo points within their bounds, by count and by memory: looked after when a cell has ended.

While a cell runs nothing is measured and no point ends: both would compete with it. The newest
point measures, as another process, and the kernel's loop looks for its answer.
"""

from __future__ import annotations

import asyncio
import os

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import memory
from zerostart_jupyter.snapshot.point import Point, collect

_SOON = 0.02  # seconds until what was asked for or ended is looked at
_LATER = memory.PAUSE  # seconds of rest after which a measurement is always due


class Bounds:
    """Lets go of the oldest of these points; `held` are the bytes that they hold together."""

    def __init__(self, points: list[Point]) -> None:
        self.held = 0
        self.settings = Settings()
        self._points = points
        self._pace = memory.Pace()
        self._ending: list[int] = []  # whose memory the system is about to take back
        self._measuring: Point | None = None
        self._measured = False  # and nothing followed from it yet
        self._changed = False  # since it was last measured
        self._next: asyncio.TimerHandle | None = None

    def cell_begins(self) -> None:
        """Leave it the processor."""
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def cell_ended(self) -> None:
        """Keep the bounds, now and until they hold."""
        self._changed = True
        self._look(resting=False)

    def woken(self) -> None:
        """This kernel is another one: what was asked for was another's."""
        self._ending.clear()
        self._measuring = None
        self._pace = memory.Pace()

    def forget(self) -> None:
        """The points are gone, or about to go: return when the last of them has."""
        self.cell_begins()
        while self._ending:
            collect(self._ending.pop())
        self._measuring, self._changed, self.held = None, False, 0

    def end(self, point: Point, why: str) -> None:
        """Let go of a point without waiting for its end."""
        if not point.gap:
            point.drop(why, wait=False)
            self._ending.append(point.pid)

    def keep_count(self) -> None:
        """Let go of the oldest beyond the number that is kept."""
        limit = self.settings.undo_points
        living = [point for point in self.living() if point.counts]
        for point in living[: max(0, len(living) - limit)]:
            self.end(point, f"only the last {limit} are kept (ZS_UNDO_POINTS)")

    def living(self) -> list[Point]:
        """Those whose processes are there, and what these have measured."""
        for point in self._points:
            point.look()
            if point.measured is not None:
                self.held, point.measured = point.measured, None
                self._measuring, self._measured = None, True
        return [point for point in self._points if not point.gap]

    def _look(self, *, resting: bool = True) -> None:
        self._ending = [pid for pid in self._ending if not collect(pid, os.WNOHANG)]
        self.keep_count()
        living = self.living()
        if self._measuring is not None and self._measuring.gap:
            self._measuring, self._changed = None, True
        if not living:
            self.held, self._changed = 0, False
        elif self._measuring is None:
            self._keep_memory(living, resting=resting)
        if self._changed or self._measuring is not None:
            quick = self._measuring is not None or self._ending
            delay = _SOON if quick else _LATER
            self._next = asyncio.get_running_loop().call_later(delay, self._look)

    def _keep_memory(self, living: list[Point], *, resting: bool) -> None:
        budget = self.settings.undo_mb << 20
        too_much, self._measured = self._measured and self.held > budget, False
        if too_much:
            self.end(living[0], f"undo points held {size(self.held)} of memory (ZS_UNDO_MB)")
            # What that frees is not known before its memory has gone.
            self._changed, self._pace = True, memory.Pace()
        elif self._changed and not (resting and self._ending) and self._pace.is_due(budget):
            self._changed, self._measuring = bool(self._ending), living[-1]
            pids = [point.pid for point in living]
            living[-1].tell({"kind": "measure", "kernel": os.getpid(), "points": pids})
