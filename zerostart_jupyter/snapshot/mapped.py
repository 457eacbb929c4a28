"""Turns memory in CRIU's images into private mappings of files, after the dump.

A restore then maps it instead of reading it, clones share its pages until one writes, and a
kernel that is saved again leaves in its images what it has changed.

Each large allocation has a file of its own, for it may grow. The small memory of a process lies in
one file, area after area.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.snapshot import arenas, images
from zerostart_jupyter.snapshot.areas import Area, Mapping, Memory, gaps
from zerostart_jupyter.snapshot.backing import MODE, Backed, Batch
from zerostart_jupyter.snapshot.earlier import Earlier, Lying

_BLOCK = 8 << 20  # bytes copied at once
_WORTH = 1 << 20  # bytes of small memory that are worth a file of their own


def out(
    directory: Path,
    batch: Batch,
    minimum: int,
    check: Callable[[], None],
    before: Callable[[], Iterator[Path]] = lambda: iter(()),
) -> None:
    """Move allocations of at least `minimum` bytes, and small memory, to files of `batch`.

    That of every process; `before` gives the images of earlier saves, the newest first. `check`
    is called now and then and may raise to give up.
    """
    for path in sorted(directory.glob("mm-*.img")):
        pid = int(path.stem.removeprefix("mm-"))
        memory = Memory(directory, pid)
        _of_process(directory, memory, batch, minimum, check, Earlier.of(before(), memory, pid))


def _of_process(
    directory: Path,
    memory: Memory,
    batch: Batch,
    minimum: int,
    check: Callable[[], None],
    earlier: Earlier,
) -> None:
    lying: list[Lying] = []
    libraries = {key for key, file in images.by_id(directory).items() if file.library}
    pages = os.open(memory.pages, os.O_RDONLY)
    try:
        large = memory.allocations(minimum)
        for area in large:
            check()
            known = earlier.whole(area, memory, batch, pages)
            lying += [known] if known else _in_a_file([area], memory, batch, pages)
        left: list[Area] = []
        for area in filter(memory.whole, arenas.small(memory, large, libraries)):
            check()
            known_parts = earlier.parts(area, memory, batch, pages)
            lying += known_parts
            left += gaps(area, [each.area for each in known_parts])
        if sum(area.length for area in left) >= _WORTH:
            lying += _in_a_file(left, memory, batch, pages)
        if not lying:
            return
        check()
        lying.sort(key=lambda each: each.area.start)
        dropped = [part for each in lying for part in gaps(each.area, each.changed)]
        _keep_only(memory, pages, dropped)
    finally:
        os.close(pages)
    ids = images.add(directory, {each.backed.path: each.backed.size for each in lying}, MODE)
    mappings = [
        Mapping(
            each.area,
            ids[each.backed.path],
            each.offset,
            memory.protection(each.area.start),
        )
        for each in lying
    ]
    memory.map(mappings, dropped)


def _in_a_file(areas: Sequence[Area], memory: Memory, batch: Batch, pages: int) -> list[Lying]:
    """These areas, one after the other, in a file; none where no file can be that long."""
    runs, places, at = [], [], 0
    for area in areas:
        places.append(at)
        runs += [
            (at + run.start - area.start, run.length, run.offset) for run in memory.within(area)
        ]
        at += area.length
    backed: Backed | None = batch.add(pages, runs, at)
    if backed is None:
        return []
    return [Lying(area, backed, place) for area, place in zip(areas, places, strict=True)]


def _keep_only(memory: Memory, pages: int, without: Sequence[Area]) -> None:
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
