"""What to fetch next: a wheel cut into byte segments, and an agenda that knows who is waiting.

Segments ignore the zip's members: a member of 350 MB is then many requests on many connections,
and inflates while its later segments are on their way.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Generic, TypeVar

Job = TypeVar("Job")

AWAITED = (
    2 << 20
)  # bytes of a segment of a wheel that somebody waits for: more connections share it
_KEPT = 24 << 20  # bytes, below the most that glibc would keep


@dataclass(frozen=True, slots=True)
class Segment:
    """Bytes `start` to `stop`; `kept` if an earlier process already has them on disk."""

    start: int
    stop: int
    kept: bool = False

    def __len__(self) -> int:
        return self.stop - self.start


def cut(total: int, chunk: int, kept: Sequence[tuple[int, int]] = ()) -> list[Segment]:
    """Segments of at most `chunk` bytes that tile a file of `total` bytes.

    `kept` are sorted, disjoint intervals; no segment lies both in and outside of one.
    """
    segments: list[Segment] = []
    at = 0
    for start, stop in (*kept, (total, total)):
        segments += _even(at, start, chunk, kept=False)
        segments += _even(start, stop, chunk, kept=True)
        at = stop
    return segments


def _even(start: int, stop: int, chunk: int, *, kept: bool) -> list[Segment]:
    return [Segment(at, min(at + chunk, stop), kept) for at in range(start, stop, chunk)]


class Buffers:
    """Memory for segments of one size, used again: touching fresh memory for the first time
    costs as much as inflating what arrives in it. Safe to use from several threads."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._idle: list[bytearray] = []
        self._settled = False

    def take(self, count: int) -> memoryview:
        """Room for `count` bytes, with whatever is in it."""
        if not self._settled:
            # glibc gives memory above a threshold back at once, to be touched anew each time, and
            # raises the threshold when it frees such a piece: what inflates to 0.5 MiB profits.
            self._settled = True
            _ = bytearray(_KEPT)
            del _
        if 2 * count <= self._size or count > self._size:
            return memoryview(bytearray(count))
        try:
            buffer = self._idle.pop()
        except IndexError:
            buffer = bytearray(self._size)
        return memoryview(buffer)[:count]

    def give(self, view: memoryview) -> None:
        """Take back what nobody looks at any more."""
        if isinstance(view.obj, bytearray) and len(view.obj) == self._size:
            self._idle.append(view.obj)


class Agenda(Generic[Job]):
    """Jobs of many wheels. What is demanded comes first, in the order of the demands.

    Otherwise a lower `phase` comes first (a wheel's directory before anybody's body), then the
    wheel with the most weight left, so that the longest chain of work starts earliest. Jobs of
    one wheel keep their order. Not safe for threads: its owner has the lock, with which they
    wait for `called`.
    """

    def __init__(self, lock: threading.RLock | None = None) -> None:
        self.called = threading.Condition(lock)
        self._count = 0
        self._jobs: dict[str, deque[tuple[int, int, int, Job]]] = {}
        self._weight: dict[str, int] = {}
        self._rank: dict[str, int] = {}

    def __len__(self) -> int:
        return self._count

    def call(self, *, all_: bool = False) -> None:
        """Wake as many threads as there are jobs, or all: to wake those who find nothing takes
        time from those who work."""
        if all_:
            self.called.notify_all()
        elif self._count:
            self.called.notify(self._count)

    def add(self, wheel: str, job: Job, *, weight: int = 1, cost: int = 0, phase: int = 0) -> None:
        """Append a job to a wheel's; `cost` is the room it needs."""
        self._jobs.setdefault(wheel, deque()).append((phase, weight, cost, job))
        self._weight[wheel] = self._weight.get(wheel, 0) + weight
        self._count += 1

    def drop(self, wheel: str) -> None:
        """Forget a wheel's jobs."""
        self._count -= len(self._jobs.pop(wheel, ()))
        self._weight.pop(wheel, None)

    def promote(self, wheels: Iterable[str]) -> None:
        """Put these before all others that were not promoted earlier."""
        rank = len(self._rank)
        for wheel in wheels:
            self._rank.setdefault(wheel, rank)

    def promoted(self, wheel: str) -> bool:
        """True if somebody waits for this wheel."""
        return wheel in self._rank

    def take(self, room: int | None = None, *, awaited: bool = False) -> tuple[str, Job] | None:
        """The next job, removed; None if there is none, or not the room it needs. With `awaited`
        only a job of a wheel that was promoted.

        The first job is never passed over for a lighter one: it would starve.
        """
        if not self._jobs:
            return None
        wheel = min(self._jobs, key=self._order)
        if awaited and wheel not in self._rank:
            return None
        jobs = self._jobs[wheel]
        _, weight, cost, job = jobs[0]
        if room is not None and cost > room:
            return None
        jobs.popleft()
        self._count -= 1
        self._weight[wheel] -= weight
        if not jobs:
            del self._jobs[wheel]
        return wheel, job

    def _order(self, wheel: str) -> tuple[int, int, int]:
        phase = self._jobs[wheel][0][0]
        return (self._rank.get(wheel, 1 << 30), phase, -self._weight[wheel])
