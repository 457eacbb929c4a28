"""What undo points cost: memory that would be free without them, measured."""

from __future__ import annotations

import math
import mmap
import resource
import time
from collections.abc import Iterable
from pathlib import Path

PAUSE = 1.0  # seconds between two measurements
_PART = 8  # of what may be held: when this part of it may have been copied, it is looked at


class Pace:
    """When to measure: it takes the system as long as a fork, for each point."""

    def __init__(self) -> None:
        self._when, self._faults = -math.inf, 0

    def is_due(self, budget: int) -> bool:
        """Whether to measure now: after a while, or when so many bytes may soon be held."""
        now, faults = time.monotonic(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
        copied = (faults - self._faults) * mmap.PAGESIZE  # at most
        if now - self._when < PAUSE and copied < budget // _PART:
            return False
        self._when, self._faults = now, faults
        return True


def held(kernel: int, points: Iterable[int]) -> int:
    """Bytes that only the points keep: pages the kernel has changed or given up since.

    A page that n processes share counts 1/n in each one's proportional set size, so the sum of
    these is what all of them take, and less the kernel's resident size it is the points' part.
    See proc_pid_smaps(5); file pages do not count.
    """
    alone = _rollup(kernel)
    shares = (_rollup(pid).get("Pss_Anon", 0) for pid in points)
    return max(0, alone.get("Pss_Anon", 0) + sum(shares) - alone.get("Anonymous", 0))


def _rollup(pid: int) -> dict[str, int]:
    try:
        lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    except OSError:  # it has ended
        return {}
    fields = (line.split() for line in lines)
    return {name.rstrip(":"): int(value) << 10 for name, value, *_ in fields}
