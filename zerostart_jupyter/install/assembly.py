"""One wheel's segments on their way to those who want them in order: its digest and its runs."""

from __future__ import annotations

import bisect
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from zerostart_jupyter.install.segments import Segment


@dataclass(slots=True, eq=False)
class Consumer:
    """Takes bytes `start` to `stop` of the file, in order, through `feed`."""

    start: int
    stop: int
    feed: Callable[[memoryview], None]
    next: int = 0
    busy: bool = False
    queue: deque[tuple[memoryview, Segment]] = field(default_factory=deque)
    left: int = 0

    def __post_init__(self) -> None:
        self.next = self.start
        self.left = self.stop - self.start


class Assembly:
    """Which bytes are here, who still wants them, and when a segment can be let go.

    Not safe for threads: its owner has a lock. Feeding happens outside of that lock, by one
    thread for each consumer at a time (`busy`).
    """

    def __init__(
        self,
        segments: Sequence[Segment],
        consumers: Sequence[Consumer],
        free: Callable[[memoryview], None] = lambda _: None,
    ) -> None:
        self._free = free
        self._segments = list(segments)
        self._starts = [segment.start for segment in segments]
        self._data: dict[int, memoryview] = {}
        self._wanted: dict[int, int] = {}
        self._consumers = sorted(consumers, key=lambda each: (each.start, each.stop))
        self._everything = [each for each in self._consumers if self._spans(each)]
        self._parts = [each for each in self._consumers if not self._spans(each)]
        self._part_starts = [each.start for each in self._parts]
        self.open = len(self._consumers)

    def _spans(self, consumer: Consumer) -> bool:
        return consumer.start == 0 and consumer.stop == self._segments[-1].stop

    def arrive(self, segment: Segment, data: memoryview) -> list[Consumer]:
        """Take a segment; returns the consumers that have something to do and nobody doing it."""
        concerned = self._concerned(segment)
        self._data[segment.start] = data
        self._wanted[segment.start] = len(concerned)
        woken = []
        for consumer in concerned:
            self._advance(consumer)
            if consumer.queue and not consumer.busy:
                consumer.busy = True
                woken.append(consumer)
        return woken

    def take(self, consumer: Consumer) -> list[tuple[memoryview, Segment]]:
        """All that a busy consumer can be fed now; an empty list ends its being busy."""
        pieces = list(consumer.queue)
        consumer.queue.clear()
        if not pieces:
            consumer.busy = False
        return pieces

    def fed(self, consumer: Consumer, piece: memoryview, segment: Segment) -> int:
        """Note that a piece was fed; returns how many bytes of memory that set free."""
        consumer.left -= len(piece)
        if consumer.left == 0:
            self.open -= 1
        self._wanted[segment.start] -= 1
        if self._wanted[segment.start]:
            return 0
        self._free(self._data.pop(segment.start))
        return len(segment)

    def _concerned(self, segment: Segment) -> list[Consumer]:
        first = max(0, bisect.bisect_right(self._part_starts, segment.start) - 1)
        last = bisect.bisect_left(self._part_starts, segment.stop)
        parts = [each for each in self._parts[first:last] if each.stop > segment.start]
        return self._everything + parts

    def _advance(self, consumer: Consumer) -> None:
        while consumer.next < consumer.stop:
            segment = self._segments[bisect.bisect_right(self._starts, consumer.next) - 1]
            data = self._data.get(segment.start)
            if data is None:
                return
            stop = min(consumer.stop, segment.stop)
            piece = data[consumer.next - segment.start : stop - segment.start]
            consumer.queue.append((piece, segment))
            consumer.next = stop
