"""Restoring a kernel beside a fresh one that re-runs its cells; and what a save costs.

Restored and fresh kernels take turns in random order within a round. Time runs from the launch to
the first reply to a cell; a fresh kernel has then re-run the cells that made its state. What is
only moved elsewhere is told too: the background part of a save, the first write to mapped memory.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import random
import statistics
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from zerostart_jupyter import snapshot
from zerostart_jupyter.bench import undo
from zerostart_jupyter.bench.kernels import PATIENCE, check, kernel, run, seconds
from zerostart_jupyter.bench.report import Case, Report, machine, versions
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import procfs, restored
from zerostart_jupyter.snapshot.catalog import SnapshotInfo

ARRAYS = 3 << 29  # bytes, unless the machine is too small for it
PREFIX = "bench-"
CLONES = 4
WRITE = "a += 1"
COLLECT = "gc.collect()"
COLD = "images and mapped files out of the page cache"
_ARRAYS = "arrays"

_TORCH = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10))
with torch.no_grad(): result = model(torch.ones(1, 1024))
"""


def measure(rounds: int, note: Callable[[str], None], *, arrays: int | None = None) -> Report:
    """Medians over `rounds` of restores, of what they cost later, and of re-running."""
    cases: list[Case] = []
    smallest: tuple[float, ...] | None = None
    for name, cells in _kinds(arrays or _fitting()).items():
        saved, again = f"{PREFIX}{os.getpid()}", f"{PREFIX}{os.getpid()}-again"
        names = f"{PREFIX}{os.getpid()}-names"
        arrays_too = name.startswith(_ARRAYS)
        try:
            with kernel("python3") as client:
                run(client, cells)
                frozen = [_saved(client, saved)]
                first_save = snapshot.show(saved)
                seconds_again = [_saved_again(client, again)]
                second = snapshot.show(again)
                frozen += [_saved(client, saved) for _ in range(rounds - 1)]
                seconds_again += [_saved_again(client, again) for _ in range(rounds - 1)]
                last = snapshot.show(again)
                snapshot.delete(again)
                run(client, "import gc; gc.collect()")
                collected = tuple(seconds(client, COLLECT) for _ in range(rounds))
                _saved(client, names, "portable")
                before = tuple(seconds(client, WRITE) for _ in range(rounds if arrays_too else 0))
            info = snapshot.show(saved)
            spec = snapshot.publish(saved).name
            note(f"{name}: {rounds} rounds")
            found = _turns(rounds, spec, cells, info)
            fresh = found["fresh"]
            cases.append(_told(f"{name}: restore as told", info, found["warm"]))
            cases += _by_names(name, names, rounds, fresh)
            mapped = sum(length for length, _ in info.manifest().memory.values())
            kept = f"{size(info.manifest().bytes)} of images, {size(mapped)} mapped"
            cases += [
                Case(f"{name}: first reply", found["warm"], "re-run", fresh, kept),
                Case(f"{name}: first reply, cold", found["cold"], "re-run", fresh, COLD),
            ]
            smallest = smallest or found["criu"]
            remark = "until all processes are back, stopped"
            cases.append(Case(f"{name}: CRIU", found["criu"], "small kernel", smallest, remark))
            remark = f"kernel frozen; then {info.seconds - info.frozen_seconds:.2g} s in background"
            cases.append(Case(f"{name}: save", tuple(frozen), "re-run", fresh, remark))
            remark = (
                f"a second save of it, unchanged, adds {_share(second, first_save)}, "
                f"the last of {2 * rounds} {_share(last, first_save)}"
            )
            took = tuple(seconds_again)
            cases.append(Case(f"{name}: save again", took, "re-run", fresh, remark))
            remark = "it writes to every object, and so copies its page"
            first = tuple(_first_collect(spec) for _ in range(rounds))
            called = f"{name}: first gc.collect()"
            cases.append(Case(called, first, "never saved", collected, remark))
            if arrays_too:
                cases += _costs_of_mapping(name, spec, rounds, found["warm"], before)
        finally:
            for each in snapshot.snapshots():
                if each.name in (saved, again, names):
                    snapshot.delete(each.name)
    note(f"undo: {rounds} rounds")
    cases += undo.measure(rounds)
    title = "Restoring a kernel instead of re-running it"
    about = versions("zerostart-jupyter", "ipykernel", "jupyter-client", "torch")
    return Report(title, tuple(cases), about, machine())


def _by_names(name: str, saved: str, rounds: int, fresh: tuple[float, ...]) -> list[Case]:
    """The portable tier: a fresh kernel that imports and reads what the names need."""
    info = snapshot.show(saved)
    spec = snapshot.publish(saved).name
    took = tuple(_to_first_reply(spec, "1") for _ in range(rounds))
    return [
        _told(f"{name}: portable restore as told", info, took),
        Case(f"{name}: first reply, portable", took, "re-run", fresh, size(info.bytes)),
    ]


def _told(name: str, info: SnapshotInfo, took: tuple[float, ...]) -> Case:
    """What was expected of a restore before it happened, beside what it took."""
    within = 0.5 <= info.restore_seconds / statistics.median(took) <= 2
    remark = f"told before, from {size(info.bytes)}, disk and earlier restores: "
    remark += "within 2 x" if within else "not within 2 x"
    return Case(name, (info.restore_seconds,), "restore", took, remark)


def _turns(rounds: int, spec: str, cells: str, info: SnapshotInfo) -> dict[str, tuple[float, ...]]:
    """Seconds of each kind of start, by turns in random order within a round."""
    found: dict[str, list[float]] = {"warm": [], "cold": [], "fresh": [], "criu": []}
    for _ in range(rounds):
        for turn in random.sample(list(found), len(found)):
            if turn == "criu":
                found[turn].append(_until_back(info.name))
                continue
            if turn == "cold":
                _forget(info)
            which, code = ("python3", cells) if turn == "fresh" else (spec, "1")
            found[turn].append(_to_first_reply(which, code))
    return {turn: tuple(times) for turn, times in found.items()}


def _costs_of_mapping(
    name: str, spec: str, rounds: int, one: tuple[float, ...], before: tuple[float, ...]
) -> list[Case]:
    """What clones share, and what the first write to a mapped array costs."""
    together, written, shares, held = [], [], [], 0
    for _ in range(rounds):
        with contextlib.ExitStack() as others, kernel(spec) as first:
            began = time.perf_counter()
            clients = [first, *(others.enter_context(kernel(spec)) for _ in range(CLONES - 1))]
            for client in clients:
                run(client, "1")
            together.append(time.perf_counter() - began)
            for client in clients:
                run(client, "float(a.sum())")
            held = sum(map(_proportional, clients))
            others.close()
            shares.append(held / _proportional(first))
            written.append(seconds(first, WRITE))
    share = (
        f"having read all, {size(held)} of memory (PSS), {statistics.median(shares):.2f} x one's"
    )
    return [
        Case(f"{name}: {CLONES} clones at once", tuple(together), "one", one, share),
        Case(
            f"{name}: first write to all of it", tuple(written), "never saved", tuple(before), WRITE
        ),
    ]


def _kinds(arrays: int) -> Mapping[str, str]:
    found = {"small": "x = 41"}
    if importlib.util.find_spec("torch"):
        found["torch"] = _TORCH
    if importlib.util.find_spec("numpy"):
        found[f"{_ARRAYS} of {size(arrays)}"] = (
            f"import numpy; a = numpy.random.default_rng(0).random({arrays // 8})"
        )
    return found


def _fitting() -> int:
    lines = Path("/proc/meminfo").read_text().splitlines()
    free = next(int(line.split()[1]) << 10 for line in lines if line.startswith("MemAvailable:"))
    return min(ARRAYS, free // 4)


def _saved(client: Any, name: str, tier: str = "process") -> float:
    """Save over the last one; returns the seconds the kernel was frozen.

    As a notebook does, the client listens to iopub meanwhile: one that does not comes back late.
    """
    call = f"s.snapshot({name!r}, replace=True, tier={tier!r})"
    code = f"import zerostart_jupyter.snapshot as s; {call}"
    reply = client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda message: None)
    check(reply)
    return snapshot.show(name).frozen_seconds


def _saved_again(client: Any, name: str) -> float:
    """Save what was saved already; returns the seconds until that is published."""
    _saved(client, name)
    return snapshot.show(name).seconds


def _share(one: SnapshotInfo, whole: SnapshotInfo) -> str:
    return f"{size(one.bytes)} ({one.bytes / whole.bytes:.1%})"


def _first_collect(spec: str) -> float:
    with kernel(spec) as client:
        return seconds(client, f"import gc; {COLLECT}")


def _to_first_reply(spec: str, code: str) -> float:
    began = time.perf_counter()
    with kernel(spec) as client:
        run(client, code)
        return time.perf_counter() - began


def _until_back(name: str) -> float:
    """Seconds until all processes of a snapshot are back, before they run."""
    began = time.perf_counter()
    found = restored.prepare(name)
    try:
        found.reader.wait()
        return time.perf_counter() - began
    finally:
        found.kill()


def _forget(info: SnapshotInfo) -> None:
    """Have the system drop a snapshot's files from its page cache."""
    for path in (*info.images.iterdir(), *map(Path, info.manifest().memory)):
        opened = os.open(path, os.O_RDONLY)
        try:
            os.fsync(opened)
            os.posix_fadvise(opened, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(opened)


def _proportional(client: Any) -> int:
    """Bytes of memory (PSS) of a kernel, its shepherd and its namespace."""
    total = 0
    for pid in procfs.tree(client.parent.provisioner.pid):
        for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines():
            if line.startswith("Pss:"):
                total += int(line.split()[1]) << 10
    return total
