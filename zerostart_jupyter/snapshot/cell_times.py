"""How long the cells of this kernel have run: what re-running them would cost. Cheap to import."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


class CellTimes:
    """Adds up the wall time of cells; the running one counts when it has ended.

    It lives in the kernel's memory, so a kernel restored from images goes on counting.
    """

    def __init__(self) -> None:
        self.seconds = 0.0
        self._began: float | None = None

    def watch(self, events: Any) -> Callable[[], None]:
        """Listen to a shell's events; returns what ends it."""
        events.register("pre_run_cell", self._begin)
        events.register("post_run_cell", self._end)

        def leave() -> None:
            events.unregister("pre_run_cell", self._begin)
            events.unregister("post_run_cell", self._end)

        return leave

    def forget_running(self) -> None:
        """The running cell does not count: it is where a snapshot was brought back."""
        self._began = None

    def _begin(self, info: object) -> None:
        self._began = time.monotonic()

    def _end(self, result: object) -> None:
        if self._began is not None:
            self.seconds += time.monotonic() - self._began
            self._began = None


_times = CellTimes()


def times() -> CellTimes:
    """Those of this kernel."""
    return _times


def rerun_seconds() -> float:
    """What the cells so far have taken; where nobody watched, this process's processor time."""
    return _times.seconds or time.process_time()
