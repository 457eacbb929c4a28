from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerostart_jupyter.load import pages
from zerostart_jupyter.load.first_touch import touch

PAGES = 2500  # more than two calls of the kernel's take at once


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[tuple[Path, int]]:
    """A file of so many pages, and where it is mapped."""
    path = tmp_path / "mapped"
    path.write_bytes(os.urandom(PAGES * pages.PAGE))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapping:
        anchor = ctypes.c_char.from_buffer(mapping)
        yield path, ctypes.addressof(anchor)
        del anchor  # the mapping cannot be closed while it is looked at


def own(address: int) -> int:
    """Bytes that are mapped in at an address, of the mapping that begins there."""
    about = Path("/proc/self/smaps").read_text().partition(f"{address:x}-")[2]
    return int(about.partition("Rss:")[2].split()[0]) << 10


@pytest.mark.parametrize("count", [1, 1024, 1025, PAGES])
def test_each_page_is_touched_and_no_other(mapped: tuple[Path, int], count: int) -> None:
    _, address = mapped
    before = own(address)
    assert touch(address, count * pages.PAGE - 5) == count
    assert own(address) - before >= count * pages.PAGE


def test_pages_that_the_file_has_lost_are_no_signal(mapped: tuple[Path, int]) -> None:
    path, address = mapped
    os.truncate(path, 100 * pages.PAGE)
    assert touch(address, PAGES * pages.PAGE) == 100


def test_nothing_is_touched_where_there_is_nothing_to_copy_to(
    mapped: tuple[Path, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    monkeypatch.setattr(os, "memfd_create", refuse)
    assert touch(mapped[1], pages.PAGE) == 0
