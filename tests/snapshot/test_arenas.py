from __future__ import annotations

import os
import random
import struct
from pathlib import Path

import pytest

from tests.snapshot.test_areas import BASE, dumped, vma
from zerostart_jupyter.snapshot import arenas
from zerostart_jupyter.snapshot.areas import PAGE, Area

POOL = 1 << 14
HEAP = 0x221  # VMA_AREA_HEAP beside what other anonymous memory has


def chunks(length: int, *sizes: int) -> bytes:
    """A heap as glibc's malloc lays it: chunks of these sizes, and the top."""
    content = bytearray(random.Random(7).randbytes(length))
    at = 0
    for size in [*sizes, length - sum(sizes)]:
        content[at : at + 16] = struct.pack("<QQ", 0, size | 1)
        at += size
    return bytes(content)


def pool(at: int, arena: int, kind: int = 3, *, taken: int = 5, free: int | None = None) -> bytes:
    """A pool of CPython's allocator at this address, with objects of one size."""
    size = (kind + 1) * 16
    following = 48 + taken * size
    free = 0 if free is None else at + 48 + free * size
    header = struct.pack("<IIQQQIIII", taken, 0, free, at, at, arena, kind, following, POOL - size)
    return header + random.Random(at).randbytes(POOL - len(header))


def pools(count: int, arena: int = 9, at: int = BASE) -> bytes:
    return b"".join(pool(at + number * POOL, arena, number % 32) for number in range(count))


def found(tmp_path: Path, content: bytes, **about: int) -> list[Area]:
    memory = dumped(tmp_path, [vma(0, len(content) // PAGE, **about)], [(0, content)])
    return arenas.small(memory, [], ())


def heap(tmp_path: Path, content: bytes, *, end: int | None = None) -> list[Area]:
    pages = len(content) // PAGE
    extent = (BASE, BASE + len(content) if end is None else end)
    memory = dumped(tmp_path, [vma(0, pages, status=HEAP)], [(0, content)], heap=extent)
    return arenas.small(memory, [], ())


def test_a_heap_of_glibc_is_followed_to_its_end(tmp_path: Path) -> None:
    content = chunks(64 * PAGE, 32, 4096, 48, 100 * 1024)
    assert heap(tmp_path, content) == [Area(BASE, BASE + 64 * PAGE)]


def test_what_the_heap_never_touched_is_not_part_of_it(tmp_path: Path) -> None:
    content = chunks(64 * PAGE, 32, 8 * PAGE)
    memory = dumped(
        tmp_path,
        [vma(0, 64, status=HEAP)],
        [(0, content[: 4 * PAGE]), (6, content[6 * PAGE : 9 * PAGE])],
        heap=(BASE, BASE + 64 * PAGE),
    )
    assert arenas.small(memory, [], ()) == [Area(BASE, BASE + 9 * PAGE)]


@pytest.mark.parametrize(
    "size",
    [
        64 * 2 | 2 | 1,  # a chunk with a mapping of its own
        64 * 2 | 4 | 1,  # of a thread's arena
        64 * 2 + 8 | 1,
        16 | 1,  # shorter than any chunk: a fencepost, behind which somebody else's memory begins
        0,
        1 << 40 | 1,  # beyond the end
    ],
)
def test_a_heap_that_is_not_all_glibcs_stays(tmp_path: Path, size: int) -> None:
    content = bytearray(chunks(64 * PAGE, 4096))
    content[4096 + 8 : 4096 + 16] = struct.pack("<Q", size)
    assert heap(tmp_path, bytes(content)) == []


def test_a_heap_whose_chunks_end_elsewhere_stays(tmp_path: Path) -> None:
    content = chunks(64 * PAGE, 4096)
    assert heap(tmp_path, content, end=BASE + 63 * PAGE) == []
    assert heap(tmp_path, content, end=BASE + 65 * PAGE) == []


def test_a_chunk_whose_header_is_in_no_page_ends_the_search(tmp_path: Path) -> None:
    content = chunks(64 * PAGE, 8 * PAGE, 8 * PAGE)
    memory = dumped(
        tmp_path,
        [vma(0, 64, status=HEAP)],
        [(0, content[: 4 * PAGE]), (16, content[16 * PAGE :])],
        heap=(BASE, BASE + 64 * PAGE),
    )
    assert arenas.small(memory, [], ()) == []


def test_pools_of_an_arena_are_one_area(tmp_path: Path) -> None:
    rest = os.urandom(3 * PAGE)
    assert found(tmp_path, pools(6) + rest) == [Area(BASE, BASE + 6 * POOL)]


def test_pools_lie_at_multiples_of_their_size(tmp_path: Path) -> None:
    shifted = os.urandom(PAGE) + pools(8, at=BASE + PAGE)
    assert found(tmp_path, shifted) == []


def test_pools_of_two_arenas_side_by_side_are_one_area(tmp_path: Path) -> None:
    content = pools(4, 1) + pools(4, 2, BASE + 4 * POOL)
    assert found(tmp_path, content) == [Area(BASE, BASE + 8 * POOL)]


def test_few_pools_alone_are_not_believed(tmp_path: Path) -> None:
    assert found(tmp_path, pools(3)) == []
    content = pools(2) + os.urandom((1 << 20) - 2 * POOL) + pools(2, at=BASE + (1 << 20))
    assert found(tmp_path, content) == [], "they lie further apart than an arena is long"


@pytest.mark.parametrize(
    ("place", "value"),
    [
        (0, struct.pack("<I", 4000)),  # more objects than fit
        (8, struct.pack("<Q", 8)),  # a free block elsewhere
        (8, struct.pack("<Q", BASE + 2 * POOL + 50)),  # or between two
        (36, struct.pack("<I", 32)),  # a size there is not
        (40, struct.pack("<I", 49)),
        (40, struct.pack("<I", 1 << 15)),
        (44, struct.pack("<I", POOL)),
    ],
)
def test_what_disagrees_with_itself_is_no_pool(tmp_path: Path, place: int, value: bytes) -> None:
    content = bytearray(pools(8))
    at = 2 * POOL + place
    content[at : at + len(value)] = value
    expected = [Area(BASE, BASE + 2 * POOL), Area(BASE + 3 * POOL, BASE + 8 * POOL)]
    assert found(tmp_path, bytes(content)) == expected


@pytest.mark.parametrize("about", [{"madv": 1 << 15}, {"flags": 0x21}, {"prot": 7}])
def test_pools_in_memory_that_is_not_ordinary_stay(tmp_path: Path, about: dict[str, int]) -> None:
    assert found(tmp_path, pools(8), **about) == []


def test_what_is_taken_is_not_looked_at(tmp_path: Path) -> None:
    memory = dumped(tmp_path, [vma(0, 8 * POOL // PAGE)], [(0, pools(8))])
    taken = [Area(BASE, BASE + 2 * POOL)]
    assert arenas.small(memory, taken, ()) == [Area(BASE + 2 * POOL, BASE + 8 * POOL)]


def test_data_of_a_library_counts_once_all_of_it_was_written(tmp_path: Path) -> None:
    content = os.urandom(4 * PAGE)
    vmas = [
        vma(0, 4, status=0x41, flags=2, prot=1, file=5),
        vma(4, 8, status=0x41, flags=2, file=5),
    ]
    memory = dumped(tmp_path, vmas, [(0, content), (4, content[: 3 * PAGE])])
    assert arenas.small(memory, [], {5}) == [Area(BASE, BASE + 4 * PAGE)]
    assert arenas.small(memory, [], {6}) == [], "a user's own file is nothing of the linker's"
