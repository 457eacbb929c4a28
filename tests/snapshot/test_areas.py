from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType

import pytest

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot.areas import PAGE, Area, Memory
from zerostart_jupyter.snapshot.messages import Field, block, number, numbers, pack, parse, write

MM, PAGEMAP, FILES = 0x57492820, 0x56084025, 0x56303138
BASE = 0x7F0000000000


def vma(
    start: int,
    end: int,
    *,
    prot: int = 3,
    flags: int = 0x22,
    status: int = 0x201,
    madv: int = 0,
    file: int = 0,
) -> list[Field]:
    """A vma_entry, with pages counted from BASE."""
    fields = [
        number(1, BASE + start * PAGE),
        number(2, BASE + end * PAGE),
        number(3, 0),
        number(4, file),
        number(5, prot),
        number(6, flags),
        number(7, status),
        number(8, 1),
    ]
    return [*fields, number(9, madv)] if madv else fields


def allocation(pages: int) -> bytes:
    """Pages as glibc's malloc heads them when they have a mapping of their own."""
    return struct.pack("<QQ", 0, pages * PAGE | 2) + os.urandom(pages * PAGE - 16)


def dumped(
    directory: Path,
    vmas: Sequence[list[Field]],
    runs: Sequence[tuple[int, bytes]],
    heap: tuple[int, int] = (0, 0),
    libraries: Mapping[int, Path] = MappingProxyType({}),
) -> Memory:
    """The images of a process of which these pages were present."""
    directory.mkdir(exist_ok=True)
    write(directory / "files.img", FILES, [library(*each) for each in libraries.items()])
    placed = [number(1, 5), number(6, heap[0]), number(7, heap[1])]
    write(
        directory / "mm-7.img",
        MM,
        [[*placed, *(block(14, pack(each)) for each in vmas), number(15, 1)]],
    )
    entries = [
        [number(1, BASE + at * PAGE), number(2, 0), number(4, 6), number(5, len(data) // PAGE)]
        for at, data in runs
    ]
    write(directory / "pagemap-7.img", PAGEMAP, [[number(1, 3)], *entries])
    (directory / "pages-3.img").write_bytes(b"".join(data for _, data in runs))
    return Memory(directory, 7)


def library(key: int, path: Path) -> list[Field]:
    """A file_entry of an ELF file: one with a build-id."""
    name = block(6, str(path).encode())
    regular = [number(1, key), number(2, 0), name, number(8, path.stat().st_size), block(11, b"id")]
    return [number(1, 1), number(2, key), block(3, pack(regular))]


def pages_of(directory: Path) -> dict[int, bytes]:
    """What a restore puts where, page by page: from the pages file over the files it maps."""
    from zerostart_jupyter.snapshot.messages import read

    paths = {}
    for entry in read(directory / "files.img", FILES):
        (regular,) = (value for field, _, value in entry if field == 3)
        assert isinstance(regular, bytes)
        (name,) = (value for field, _, value in parse(regular) if field == 6)
        assert isinstance(name, bytes)
        paths[numbers(entry)[2]] = Path(name.decode())
    found = {}
    for each in Memory(directory, 7).mappings():
        with paths[each.file].open("rb") as stream:
            stream.seek(each.offset)
            for at in range(each.area.start, each.area.end, PAGE):
                found[at] = stream.read(PAGE)
    memory = Memory(directory, 7)
    content = memory.pages.read_bytes()
    for run in memory.runs:
        for done in range(0, run.length, PAGE):
            found[run.start + done] = content[run.offset + done : run.offset + done + PAGE]
    return {at: data for at, data in found.items() if any(data)}


def test_a_large_allocation_is_found_across_vmas(tmp_path: Path) -> None:
    # numpy advises huge pages from the second page on, which splits the mapping.
    memory = dumped(tmp_path, [vma(0, 1), vma(1, 64, madv=1 << 14)], [(0, allocation(64))])
    assert memory.allocations(64 * PAGE) == [Area(BASE, BASE + 64 * PAGE)]
    assert memory.allocations(65 * PAGE) == []


def test_neighbours_are_told_apart(tmp_path: Path) -> None:
    content = os.urandom(3 * PAGE) + allocation(8) + allocation(16) + os.urandom(PAGE)
    memory = dumped(tmp_path, [vma(0, 28)], [(0, content)])
    assert [(each.start - BASE) // PAGE for each in memory.allocations(PAGE)] == [3, 11]


@pytest.mark.parametrize(
    "change",
    [
        {"prot": 1},
        {"flags": 0x21},  # shared
        {"flags": 0x40022},  # huge pages of their own
        {"flags": 0x2022},  # locked in memory
        {"status": 0x221},  # the heap
        {"madv": 1 << 15},  # a thread's stack
        {"madv": 1 << 10},  # not for children
    ],
)
def test_what_is_not_ordinary_memory_stays(tmp_path: Path, change: dict[str, int]) -> None:
    memory = dumped(tmp_path, [vma(0, 64, **change)], [(0, allocation(64))])
    assert memory.allocations(PAGE) == []


@pytest.mark.parametrize(
    "header",
    [
        struct.pack("<QQ", 0, 64 * PAGE),  # no mark: from an arena
        struct.pack("<QQ", 0, 64 * PAGE | 6),
        struct.pack("<QQ", 1, 64 * PAGE | 2),
        struct.pack("<QQ", 0, 65 * PAGE | 2),  # longer than what is mapped
        struct.pack("<QQ", 0, 64 * PAGE - 16 | 2),
        struct.pack("<QQ", 0, 2),
        bytes(16),
    ],
)
def test_what_malloc_did_not_map_stays(tmp_path: Path, header: bytes) -> None:
    content = header + b"\xff" * (64 * PAGE - 16)
    assert dumped(tmp_path, [vma(0, 64)], [(0, content)]).allocations(PAGE) == []


def test_what_is_mostly_untouched_stays(tmp_path: Path) -> None:
    content = allocation(64)
    memory = dumped(tmp_path, [vma(0, 64)], [(0, content[: 31 * PAGE])])
    assert memory.allocations(PAGE) == []
    memory = dumped(tmp_path, [vma(0, 64)], [(0, content[: 32 * PAGE])])
    assert len(memory.allocations(PAGE)) == 1


def test_an_image_without_its_parts_is_damage(tmp_path: Path) -> None:
    dumped(tmp_path, [vma(0, 1)], [])
    write(tmp_path / "pagemap-7.img", PAGEMAP, [])
    with pytest.raises(SnapshotCorrupt, match="process 7"):
        Memory(tmp_path, 7)
    write(tmp_path / "pagemap-7.img", PAGEMAP, [[number(1, 3)], [number(2, 1)]])
    with pytest.raises(SnapshotCorrupt, match="pages"):
        Memory(tmp_path, 7)
