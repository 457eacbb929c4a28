"""What undo points cost: memory that would be free without them, measured."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path


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
