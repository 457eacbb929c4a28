"""Which memory of a dumped process may become a private mapping of a file; decided, not done.

A file behind private memory shows where anonymous memory would be zero: after MADV_DONTNEED, and
where mremap(2) grows it. So only large allocations of glibc's malloc qualify, each whole and in a
file of its own: free() unmaps one, realloc() grows one by mremap and promises nothing about what
is new, and no allocator purges them. They are known by the header glibc puts at their first page
(malloc/malloc.c, sysmalloc_mmap); what has none stays in the images, which is only slower. That
leaves out stacks, arenas of threads and all of jemalloc and mimalloc; `arenas` adds the memory of
small objects.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.snapshot.messages import (
    Field,
    block,
    corrupt,
    number,
    numbers,
    pack,
    parse,
    read,
    write,
)

PAGE = os.sysconf("SC_PAGE_SIZE")

_MM_MAGIC, _PAGEMAP_MAGIC = 0x57492820, 0x56084025
_VMAS = 14  # mm_entry
_START, _END, _PGOFF, _SHMID, _PROT, _FLAGS, _STATUS, _FD, _MADV, _FDFLAGS = range(1, 11)  # vma
_BRK, _BRK_END = 6, 7  # mm_entry: mm_start_brk, mm_brk
_BORN = range(1, 7)  # of mm_entry: where the system placed code, data, stack and heap
_PAGES_ID = 1  # pagemap_head
_VADDR, _COMPAT_PAGES, _PAGES_FLAGS, _PAGES = 1, 2, 4, 5  # pagemap_entry
_PRESENT = 4  # of _PAGES_FLAGS: the page is in this image
_ANONYMOUS = 1 << 0 | 1 << 9  # VMA_AREA_REGULAR | VMA_ANON_PRIVATE
_OF_HEAP = _ANONYMOUS | 1 << 5  # VMA_AREA_HEAP
_OF_FILE = 1 << 0 | 1 << 6  # VMA_AREA_REGULAR | VMA_FILE_PRIVATE
_MAP_PRIVATE, _MAP_ANONYMOUS = 0x02, 0x20
_READ_WRITE = 3
_HUGEPAGE = 1 << 14  # numpy's wish for its arrays; for a file it means nothing
_NO_FD = 1  # -1 as a sint

_HEADER = 16  # bytes of prev_size and size before an allocation
_IS_MMAPPED, _MARKS = 2, 7  # in the lowest bits of size


@dataclass(frozen=True, slots=True)
class Run:
    """Present pages that follow one another in memory and in the pages file; all in bytes."""

    start: int
    length: int
    offset: int
    entry: tuple[Field, ...]

    @property
    def end(self) -> int:
        """Where it ends in memory."""
        return self.start + self.length

    @property
    def present(self) -> bool:
        """Whether the pages file has them."""
        return bool(numbers(self.entry).get(_PAGES_FLAGS, 0) & _PRESENT)


@dataclass(frozen=True, slots=True)
class Area:
    """One allocation, from its header's page to its end."""

    start: int
    end: int

    @property
    def length(self) -> int:
        """Bytes."""
        return self.end - self.start


@dataclass(frozen=True, slots=True)
class Mapping:
    """An area that is a private mapping of a file from `offset` on; `file` as images name it."""

    area: Area
    file: int
    offset: int
    protection: int


class Memory:
    """The memory of one dumped process, as `mm-PID.img` and `pagemap-PID.img` tell it."""

    def __init__(self, directory: Path, pid: int) -> None:
        self._mm = directory / f"mm-{pid}.img"
        self._pagemap = directory / f"pagemap-{pid}.img"
        entries = list(read(self._mm, _MM_MAGIC))
        head, *rest = list(read(self._pagemap, _PAGEMAP_MAGIC)) or [[]]
        if len(entries) != 1 or _PAGES_ID not in numbers(head):
            raise corrupt(f"the memory of process {pid} is not described")
        (self._entry,) = entries
        self._head = head
        self.pages = directory / f"pages-{numbers(head)[_PAGES_ID]}.img"
        self.runs = list(_runs(rest))
        self._starts = [run.start for run in self.runs]
        fields = (value for field, _, value in self._entry if field == _VMAS)
        self.vmas = [list(parse(value)) for value in fields if isinstance(value, bytes)]
        self._known = [numbers(vma) for vma in self.vmas]

    @property
    def heap(self) -> tuple[int, int]:
        """Where the memory that brk(2) grows begins and ends."""
        known = numbers(self._entry)
        return known.get(_BRK, 0), known.get(_BRK_END, 0)

    @property
    def born(self) -> tuple[int, ...]:
        """Where the system placed it: the same for all dumps of one process and its clones."""
        known = numbers(self._entry)
        return tuple(known.get(field, 0) for field in _BORN)

    def allocations(self, minimum: int) -> list[Area]:
        """What of at least `minimum` bytes may be mapped and is at least half in the image."""
        with self.pages.open("rb", buffering=0) as stream:
            found = [
                area
                for region in regions(self.vmas)
                for area in _allocations(region, lambda at: self._peek(stream.fileno(), at))
                if area.length >= minimum
            ]
        return [area for area in found if self._dense(area)]

    def within(self, area: Area) -> Iterator[Run]:
        """What of an area is in the pages file."""
        first = max(0, bisect_right(self._starts, area.start) - 1)
        for run in itertools.islice(self.runs, first, None):
            if run.start >= area.end:
                return
            start, end = max(run.start, area.start), min(run.end, area.end)
            if start < end:
                yield Run(start, end - start, run.offset + start - run.start, run.entry)

    def outside(self, areas: Sequence[Area]) -> Iterator[Run]:
        """What stays in the pages file, in its order."""
        for run in self.runs:
            for left in gaps(Area(run.start, run.end), areas):
                offset = run.offset + left.start - run.start
                yield Run(left.start, left.length, offset, run.entry)

    def mappings(self) -> Iterator[Mapping]:
        """What is a private mapping of a file, without anything special about it."""
        for known in self._known:
            plain = known[_FLAGS] == _MAP_PRIVATE and not known.get(_MADV, 0)
            if known[_STATUS] == _OF_FILE and plain:
                area = Area(known[_START], known[_END])
                yield Mapping(area, known[_SHMID], known.get(_PGOFF, 0), known[_PROT])

    def protection(self, address: int) -> int:
        """What may be done with the memory at an address that is mapped; PROT_ of mmap(2)."""
        place = bisect_right(self._known, address, key=lambda known: known[_START]) - 1
        return self._known[place][_PROT]

    def offset(self, address: int) -> int | None:
        """Where the pages file has what is at an address; None where it has not."""
        place = bisect_right(self._starts, address) - 1
        run = self.runs[max(place, 0)] if self.runs else None
        if run is None or not run.start <= address < run.end or not run.present:
            return None
        return run.offset + address - run.start

    def map(self, mappings: Sequence[Mapping], dropped: Sequence[Area]) -> None:
        """Write the two images anew, with these mappings and without the pages in `dropped`.

        Both are sorted. What is mapped and not dropped lies over its file, as if written to.
        """
        areas = [each.area for each in mappings]
        kept = [*_without(self.vmas, areas), *map(_mapping, mappings)]
        kept.sort(key=lambda vma: numbers(vma)[_START])
        others = [field for field in self._entry if field[0] != _VMAS]
        vmas = [block(_VMAS, pack(vma)) for vma in kept]
        runs = [_resized(run) for run in self.outside(dropped)]
        write(self._mm, _MM_MAGIC, [[*others, *vmas]])
        write(self._pagemap, _PAGEMAP_MAGIC, [self._head, *runs])

    def whole(self, area: Area) -> bool:
        """Whether the image itself has all of it that is not zero."""
        return all(run.present for run in self.within(area))

    def _dense(self, area: Area) -> bool:
        runs = list(self.within(area))
        return self.whole(area) and 2 * sum(run.length for run in runs) >= area.length

    def _peek(self, pages: int, address: int) -> bytes:
        """The first bytes of a page; none if it is not in the image."""
        offset = self.offset(address)
        return b"" if offset is None else os.pread(pages, _HEADER, offset)


def _runs(entries: Sequence[list[Field]]) -> Iterator[Run]:
    offset = 0
    for entry in entries:
        known = numbers(entry)
        if _VADDR not in known or _PAGES not in known:
            raise corrupt("a range of pages is not described")
        run = Run(known[_VADDR], known[_PAGES] * PAGE, offset, tuple(entry))
        yield run
        offset += run.length if run.present else 0


def regions(vmas: Sequence[Sequence[Field]], *, heap: bool = False) -> Iterator[Area]:
    """Ordinary anonymous memory without a gap, whatever it is split into; or the heap's."""
    status = _OF_HEAP if heap else _ANONYMOUS
    known = (numbers(vma) for vma in vmas)
    return united(Area(each[_START], each[_END]) for each in known if _ordinary(each, status))


def united(areas: Iterable[Area]) -> Iterator[Area]:
    """The same, sorted as they are, with those that touch made one."""
    last: Area | None = None
    for area in areas:
        if last is not None and area.start <= last.end:
            last = Area(last.start, max(last.end, area.end))
            continue
        if last is not None:
            yield last
        last = area
    if last is not None:
        yield last


def gaps(area: Area, others: Sequence[Area]) -> Iterator[Area]:
    """What of an area is in none of the others, which are sorted."""
    start = area.start
    for each in overlapping(others, area):
        if start < each.start:
            yield Area(start, each.start)
        start = max(start, each.end)
    if start < area.end:
        yield Area(start, area.end)


def _ordinary(vma: dict[int, int], status: int) -> bool:
    return (
        vma[_STATUS] == status
        and vma[_PROT] == _READ_WRITE
        and vma[_FLAGS] == _MAP_PRIVATE | _MAP_ANONYMOUS
        and vma.get(_MADV, 0) in (0, _HUGEPAGE)
    )


def _allocations(region: Area, peek: Callable[[int], bytes]) -> Iterator[Area]:
    at = region.start
    while at < region.end:
        header = peek(at)
        size = int.from_bytes(header[8:], "little")
        length = size & ~_MARKS
        if (
            len(header) == _HEADER
            and not any(header[:8])
            and size & _MARKS == _IS_MMAPPED
            and 0 < length <= region.end - at
            and length % PAGE == 0
        ):
            yield Area(at, at + length)
            at += length
        else:
            at += PAGE


def overlapping(areas: Sequence[Area], area: Area) -> Iterator[Area]:
    """Those of the sorted areas that have something in common with this one."""
    first = bisect_right(areas, area.start, key=lambda each: each.end)
    for each in itertools.islice(areas, first, None):
        if each.start >= area.end:
            return
        yield each


def _without(vmas: Sequence[list[Field]], areas: Sequence[Area]) -> Iterator[list[Field]]:
    for vma in vmas:
        known = numbers(vma)
        for left in gaps(Area(known[_START], known[_END]), areas):
            yield _between(vma, left.start, left.end)


def _between(vma: Sequence[Field], start: int, end: int) -> list[Field]:
    known = numbers(vma)
    if (start, end) == (known[_START], known[_END]):
        return list(vma)
    rest = [field for field in vma if field[0] not in (_START, _END)]
    return [number(_START, start), number(_END, end), *rest]


def _mapping(mapping: Mapping) -> list[Field]:
    return [
        number(_START, mapping.area.start),
        number(_END, mapping.area.end),
        number(_PGOFF, mapping.offset),
        number(_SHMID, mapping.file),  # of the file, for a mapping of one
        number(_PROT, mapping.protection),
        number(_FLAGS, _MAP_PRIVATE),
        number(_STATUS, _OF_FILE),
        number(_FD, _NO_FD),
        number(_FDFLAGS, os.O_RDONLY),
    ]


def _resized(run: Run) -> list[Field]:
    changed = {_VADDR: run.start, _PAGES: run.length // PAGE}
    return [(n, kind, changed.get(n, value)) for n, kind, value in run.entry]
