"""Which bytes of a file are here: sorted intervals that never touch. Pure."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterable, Iterator

Interval = tuple[int, int]


class Intervals:
    """A set of bytes, as half-open intervals. Not thread-safe: its user holds a lock."""

    def __init__(self, found: Iterable[Interval] = ()) -> None:
        self._ends: list[Interval] = []  # (stop, start): bisecting finds the first that matters
        for start, stop in found:
            self.add(start, stop)

    def add(self, start: int, stop: int) -> None:
        """Count these bytes in."""
        if start >= stop:
            return
        first = bisect_left(self._ends, (start, -1))
        last = first
        while last < len(self._ends) and self._ends[last][1] <= stop:
            start, stop = min(start, self._ends[last][1]), max(stop, self._ends[last][0])
            last += 1
        self._ends[first:last] = [(stop, start)]

    def missing(self, start: int, stop: int) -> Iterator[Interval]:
        """The parts of an interval that are not here, in order."""
        for end, begin in self._ends[bisect_left(self._ends, (start + 1, -1)) :]:
            if begin >= stop:
                break
            if start < begin:
                yield start, begin
            start = max(start, end)
        if start < stop:
            yield start, stop

    @property
    def total(self) -> int:
        """How many bytes are here."""
        return sum(stop - start for stop, start in self._ends)

    def __iter__(self) -> Iterator[Interval]:
        return ((start, stop) for stop, start in self._ends)
