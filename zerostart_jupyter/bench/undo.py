"""What an undo point costs each cell, and how soon a kernel answers that went back to one."""

from __future__ import annotations

import importlib.util
import statistics
import time
from typing import Any

from zerostart_jupyter.bench.kernels import kernel, run, seconds
from zerostart_jupyter.bench.report import Case
from zerostart_jupyter.core.wording import seconds as in_seconds

_CELLS = 8  # of each kind in a round
_SET_UP = "import zerostart_jupyter.snapshot as s, gc"
_COLLECT = "gc.collect()"


def measure(rounds: int) -> list[Case]:
    """Cells with a point and without by turns, in a kernel with torch and pandas if they are here.

    A kernel's first undo starts its keeper; later ones find it there.
    """
    wanted = [name for name in ("torch", "pandas", "numpy") if importlib.util.find_spec(name)]
    title = " + ".join(name for name in wanted if name != "numpy") or "small"
    state = "\n".join(f"import {name}" for name in wanted) + "\nx = list(range(100_000))"
    with_point: list[float] = []
    without: list[float] = []
    copied: list[float] = []
    alone: list[float] = []
    back: list[float] = []
    fresh = tuple(_fresh(state) for _ in range(rounds))
    with kernel("python3") as client:
        run(client, f"{state}\n{_SET_UP}")
        seconds(client, _COLLECT)
        for _ in range(rounds):
            without += [_cell(client) for _ in range(_CELLS)]
            alone.append(seconds(client, _COLLECT))
            run(client, "s.auto(True)")
            _cell(client)
            with_point += [_cell(client) for _ in range(_CELLS)]
            copied.append(seconds(client, _COLLECT))
            back.append(_undone(client))
            run(client, "s.auto(False)")
    cost = statistics.median(with_point) - statistics.median(without)
    worst = max(with_point) - statistics.median(without)
    remark = f"a point costs {1e3 * cost:.1f} ms, {1e3 * worst:.1f} at most"
    later = statistics.median(back[1:] or back)
    first = f"the first {in_seconds(back[0])}, with its keeper's start; later ones {later:.2g} s"
    return [
        Case(
            f"{title}: cell with an undo point",
            tuple(with_point),
            "without",
            tuple(without),
            remark,
        ),
        Case(f"{title}: undo to first answer", tuple(back), "re-run", fresh, first),
        Case(
            f"{title}: first gc.collect() after a point",
            tuple(copied),
            "without",
            tuple(alone),
            "it writes to every object, and so copies its page",
        ),
    ]


def _fresh(state: str) -> float:
    began = time.perf_counter()
    with kernel("python3") as client:
        run(client, state)
        return time.perf_counter() - began


def _cell(client: Any) -> float:
    began = time.perf_counter()
    run(client, "pass", silent=False)
    return time.perf_counter() - began


def _undone(client: Any) -> float:
    """Seconds from asking for an undo to the answer of the cell after it."""
    began = time.perf_counter()
    run(client, "s.undo()", silent=False)
    run(client, "1")
    return time.perf_counter() - began
