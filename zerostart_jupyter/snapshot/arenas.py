"""Where a dumped process keeps its small objects, as far as that memory may be mapped as well.

`areas` says what a file behind memory can show that anonymous memory would not: something else
than zeros after MADV_DONTNEED and where mremap(2) grows it. Three more kinds of memory are safe:

- the heap that brk(2) grows, if glibc's malloc has all of it. It is released by brk, which unmaps;
  malloc_trim(3) drops pages inside of free chunks, whose content is nobody's, and calloc(3) takes
  only what brk brings anew for zeros (malloc/malloc.c, mtrim and __libc_calloc). That it is all
  glibc's is shown by following its chunks from the first to the end of the heap.
- the pools of CPython's own allocator (Objects/obmalloc.c, 3.10 and later). Arenas come from
  mmap(2), are never advised or grown, go back by munmap(2), and nothing in them is taken for zero.
  A pool is known by eight fields of its header that must agree, and by its neighbours: pools of
  one arena have its index and lie within its size.

- data of a library that was written to in every page, by relocation for the most part: nobody
  takes back his own relocations. It is private memory over a file before and after.

What is none of these stays in the images, which is only slower: heaps of other allocators, other
versions of Python, a process that was dumped in the middle of a malloc().
"""

from __future__ import annotations

import mmap
import struct
from collections import defaultdict
from collections.abc import Collection, Iterator, Sequence

from zerostart_jupyter.snapshot.areas import Area, Memory, gaps, regions, united

_ARENA = 1 << 20  # bytes; ARENA_SIZE
_POOL = 1 << 14  # POOL_SIZE
_FEWEST = 4  # pools that an arena must show to be believed
_SIZES = 32  # NB_SMALL_SIZE_CLASSES
# struct pool_header: count and padding, freeblock, nextpool, prevpool, arenaindex, szidx,
# nextoffset, maxnextoffset
_HEADER = struct.Struct("<IIQQQIIII")
_SMALLEST = 32  # bytes of a chunk: MINSIZE
_NOT_MAIN = 0b1110  # of a chunk's size: mapped alone, of another arena, or no multiple of 16


def small(memory: Memory, taken: Sequence[Area], libraries: Collection[int]) -> list[Area]:
    """What small objects lie in, apart from the areas that are `taken` already; sorted.

    `libraries` are the ids of files that are known to be such.
    """
    with memory.pages.open("rb") as stream:
        try:
            pages = mmap.mmap(stream.fileno(), 0, prot=mmap.PROT_READ)
        except ValueError:  # an empty file
            return []
        with pages:
            found = [*_heap(memory, pages), *_pools(memory, pages, taken)]
    found += _relocated(memory, libraries)
    return sorted(found, key=lambda area: area.start)


def _heap(memory: Memory, pages: mmap.mmap) -> Iterator[Area]:
    start, end = memory.heap
    extent = next((each for each in regions(memory.vmas, heap=True) if each.start == start), None)
    if extent is None or extent.end < end:
        return
    runs = [run for run in memory.within(extent) if run.present]
    with memoryview(pages)[: len(pages) & ~7].cast("Q") as words:
        at = start
        for run in runs:
            if at < run.start:  # its header is in no page
                return
            shift = run.offset - run.start
            while at < run.end:
                size = words[((at + shift) >> 3) + 1]
                at += size & ~1
                if size & _NOT_MAIN or size < _SMALLEST:
                    return
    if at == end and runs:
        yield Area(start, runs[-1].end)


def _relocated(memory: Memory, libraries: Collection[int]) -> Iterator[Area]:
    for each in memory.mappings():
        present = sum(run.length for run in memory.within(each.area) if run.present)
        if each.file in libraries and present == each.area.length:
            yield each.area


def _pools(memory: Memory, pages: mmap.mmap, taken: Sequence[Area]) -> Iterator[Area]:
    arenas = defaultdict(list)
    for region in regions(memory.vmas):
        for free in gaps(region, taken):
            for at in range(-(-free.start // _POOL) * _POOL, free.end - _POOL + 1, _POOL):
                offset = memory.offset(at)
                if offset is None:
                    continue
                index = _arena_of_pool(pages[offset : offset + _HEADER.size], at)
                if index is not None:
                    arenas[index].append(at)
    found = [
        at
        for each in arenas.values()
        if len(each) >= _FEWEST and each[-1] + _POOL - each[0] <= _ARENA
        for at in each
    ]
    yield from united(Area(at, at + _POOL) for at in sorted(found))


def _arena_of_pool(header: bytes, at: int) -> int | None:
    """The index of the arena that the pool here belongs to; None where there is no pool."""
    count, _, free, _, _, arena, kind, following, last = _HEADER.unpack(header)
    size = (kind + 1) * 16
    first = _HEADER.size
    right = (
        kind < _SIZES
        and last == _POOL - size
        and first + size <= following <= _POOL
        and (following - first) % size == 0
        and count <= (_POOL - first) // size
        and (
            free == 0
            or (at + first <= free <= at + _POOL - size and (free - at - first) % size == 0)
        )
    )
    return arena if right else None
