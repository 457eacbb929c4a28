"""What earlier saves of the very same process have in files: a new save stores only what differs.

The memory is compared with the file's content, page by page, so it does not matter what else
happened since: equal pages leave the new images, and the others lie over the file, just as if the
process had been restored from it and had written to them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot import images
from zerostart_jupyter.snapshot.areas import PAGE, Area, Memory, gaps, united
from zerostart_jupyter.snapshot.backing import Backed, Batch

_BLOCK = 1 << 20  # bytes compared at once


@dataclass(frozen=True, slots=True)
class Lying:
    """An area that lies in a file from this offset on, but for the areas that `changed`."""

    area: Area
    backed: Backed
    offset: int
    changed: tuple[Area, ...] = ()


class Earlier:
    """The files of one earlier dump of a process, by the addresses they were mapped at."""

    def __init__(self, lying: Sequence[tuple[Area, Path, int]] = ()) -> None:
        self._lying = sorted(lying, key=lambda each: each[0].start)

    @classmethod
    def of(cls, folders: Iterator[Path], memory: Memory, pid: int) -> Earlier:
        """From the first of these folders of images that is a dump of the same process."""
        for folder in folders:
            # Somebody may remove a snapshot while we look at it.
            with contextlib.suppress(SnapshotCorrupt, OSError):
                if (folder / f"mm-{pid}.img").exists():
                    other = Memory(folder, pid)
                    if other.born == memory.born:
                        files = images.by_id(folder)
                        return cls(
                            [
                                (each.area, Path(files[each.file].path), each.offset)
                                for each in other.mappings()
                                if each.file in files
                            ]
                        )
        return cls()

    def whole(self, area: Area, memory: Memory, batch: Batch, pages: int) -> Lying | None:
        """The file that an earlier dump made for exactly this area, if most of it is the same."""
        for lying in self._over(area, batch):
            if (lying.area, lying.offset, lying.backed.length) == (area, 0, area.length):
                return _compared(lying, memory, pages)
        return None

    def parts(self, area: Area, memory: Memory, batch: Batch, pages: int) -> list[Lying]:
        """What of an area lies in files already and is mostly the same; sorted."""
        found = (_compared(each, memory, pages) for each in self._over(area, batch))
        return [each for each in found if each is not None]

    def _over(self, area: Area, batch: Batch) -> Iterator[Lying]:
        for mapped, path, offset in self._lying:
            start, end = max(area.start, mapped.start), min(area.end, mapped.end)
            if start >= end:
                continue
            backed = batch.known(path)
            at = offset + start - mapped.start
            if backed is not None and at + end - start <= backed.length:
                yield Lying(Area(start, end), backed, at)


def _compared(lying: Lying, memory: Memory, pages: int) -> Lying | None:
    """With what has changed; None if that is more than half, or if it holds what is now zero."""
    area = lying.area
    runs = list(memory.within(area))
    present = [Area(run.start, run.end) for run in runs]
    changed: list[Area] = []
    opened = os.open(lying.backed.path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        shift = lying.offset - area.start
        for gap in gaps(area, present):
            for at in range(gap.start, gap.end, _BLOCK):
                if any(os.pread(opened, min(_BLOCK, gap.end - at), at + shift)):
                    return None
        for run in runs:
            for at in range(run.start, run.end, _BLOCK):
                count = min(_BLOCK, run.end - at)
                now = os.pread(pages, count, run.offset + at - run.start)
                then = os.pread(opened, count, at + shift)
                if now != then:
                    changed += _differing(at, now, then)
    finally:
        os.close(opened)
    if 2 * sum(each.length for each in changed) > sum(each.length for each in present):
        return None
    return Lying(area, lying.backed, lying.offset, tuple(united(changed)))


def _differing(at: int, now: bytes, then: bytes) -> Iterator[Area]:
    for page in range(0, len(now), PAGE):
        if now[page : page + PAGE] != then[page : page + PAGE]:
            yield Area(at + page, at + page + PAGE)
