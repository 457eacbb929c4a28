"""Turns large allocations in CRIU's images into private mappings of files, after the dump.

A restore then maps them instead of reading them, clones share their pages until one writes, and
a kernel that came back that way and is saved again leaves in its images what it has changed.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from zerostart_jupyter.snapshot import images
from zerostart_jupyter.snapshot.areas import Area, Memory
from zerostart_jupyter.snapshot.backing import MODE, Backed, Batch

_BLOCK = 8 << 20  # bytes copied at once


def out(directory: Path, batch: Batch, minimum: int, check: Callable[[], None]) -> None:
    """Move allocations of at least `minimum` bytes, of every process, to files of `batch`.

    `check` is called now and then and may raise to give up.
    """
    for path in sorted(directory.glob("mm-*.img")):
        memory = Memory(directory, int(path.stem.removeprefix("mm-")))
        _of_process(directory, memory, batch, minimum, check)


def _of_process(
    directory: Path, memory: Memory, batch: Batch, minimum: int, check: Callable[[], None]
) -> None:
    moved: list[tuple[Area, Backed]] = []
    pages = os.open(memory.pages, os.O_RDONLY)
    try:
        for area in memory.allocations(minimum):
            check()
            runs = [(run.start - area.start, run.length, run.offset) for run in memory.within(area)]
            backed = batch.add(pages, runs, area.length)
            if backed is not None:
                moved.append((area, backed))
        if not moved:
            return
        areas = [area for area, _ in moved]
        _keep_only(memory, pages, areas)
    finally:
        os.close(pages)
    ids = images.add(directory, {backed.path: backed.size for _, backed in moved}, MODE)
    memory.map(areas, [ids[backed.path] for _, backed in moved])


def _keep_only(memory: Memory, pages: int, without: list[Area]) -> None:
    """Write the pages file anew without these areas."""
    staging = memory.pages.with_suffix(".part")
    target = os.open(staging, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        for run in memory.outside(without):
            if run.present:
                for done in range(0, run.length, _BLOCK):
                    _copy(pages, target, run.offset + done, min(_BLOCK, run.length - done))
    finally:
        os.close(target)
    staging.replace(memory.pages)


def _copy(source: int, target: int, offset: int, count: int) -> None:
    rest = memoryview(os.pread(source, count, offset))
    while rest:
        rest = rest[os.write(target, rest) :]
