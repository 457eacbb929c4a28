from __future__ import annotations

import ctypes
import mmap
import os
import tempfile
from pathlib import Path

import pytest

from tests.load.files import descriptors
from tests.patience import eventually
from zerostart_jupyter.load import disk, pages


@pytest.fixture
def files(disk_path: Path) -> list[Path]:
    """Two files, on the disk and in the page cache."""
    made = []
    for name, size in (("a", 3 * disk.BLOCK + 100), ("b", 5000)):
        path = disk_path / name
        path.write_bytes(os.urandom(size))
        with path.open("rb") as file:
            os.fsync(file.fileno())
        made.append(path)
    return made


def test_what_is_cached_is_counted_by_bytes(files: list[Path]) -> None:
    assert disk.cached(files) == 1.0
    with files[0].open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    assert disk.cached(files) < 0.5
    assert disk.cached([files[1]]) == 1.0


def test_nothing_is_cached_entirely(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    assert disk.cached([tmp_path / "empty"]) == 1.0
    assert disk.cached([]) == 1.0


def test_a_probe_reads_the_files_once_and_leaves_the_page_cache_alone(files: list[Path]) -> None:
    for path in files:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    before = descriptors()
    found = disk.probe(files, seconds=60)
    assert found is not None
    assert found.bytes == sum(path.stat().st_size for path in files)
    assert found.gb_per_second == pytest.approx(found.bytes / 1e9 / found.seconds)
    assert disk.cached(files) < 0.5
    assert descriptors() == before


def test_a_probe_ends_at_its_limit_or_after_its_time(files: list[Path]) -> None:
    limited = disk.probe(files, seconds=60, limit=disk.BLOCK)
    assert limited is not None
    assert limited.bytes == disk.BLOCK
    brief = disk.probe(files, seconds=0)
    assert brief is not None
    assert 0 < brief.bytes <= disk.BLOCK * disk.THREADS


def test_no_figure_where_there_is_no_direct_io(
    files: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()
    assert disk.probe([files[0], Path("/proc/self/status")]) is None
    assert descriptors() == before
    monkeypatch.setattr(pages, "preadv_direct", lambda *_: None)
    assert disk.probe(files) is None
    assert disk.probe([]) is None


def test_populate_brings_a_mapping_in_and_refuses_what_is_not_mapped() -> None:
    assert pages.can_populate()
    with pytest.raises(OSError, match="Cannot allocate memory"):
        pages.populate(pages.PAGE, pages.PAGE)


def test_a_part_of_a_file_is_brought_in_with_one_call(files: list[Path]) -> None:
    with files[0].open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        pages.bring(file.fileno(), 0, size)
        assert pages.resident(file.fileno()) == 1.0
        with pytest.raises(OSError, match="Bad address"):
            pages.bring(file.fileno(), -(-size // pages.PAGE) * pages.PAGE, pages.PAGE)
    reading, writing = os.pipe()
    with os.fdopen(reading), os.fdopen(writing), pytest.raises(OSError, match="No such device"):
        pages.bring(reading, 0, pages.PAGE)


def test_what_is_read_ahead_is_in_memory_soon(files: list[Path]) -> None:
    with files[0].open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        assert not pages.cached(file.fileno(), size - 1, 0)
        pages.read_ahead(file.fileno(), 0, size)
        eventually(lambda: pages.resident(file.fileno()) == 1.0)
        assert pages.cached(file.fileno(), size - 1, 0)


def test_where_a_file_system_does_not_say_what_is_in_memory_the_mapping_does() -> None:
    with tempfile.TemporaryFile(dir="/dev/shm") as file:  # a tmpfs, and mostly holes
        file.truncate(2 * pages.PAGE)
        file.write(b"x")
        file.flush()
        with mmap.mmap(file.fileno(), 0, mmap.MAP_PRIVATE) as mapped:
            anchor = ctypes.c_char.from_buffer(mapped)
            at = ctypes.addressof(anchor)
            del anchor  # the mapping cannot be closed while it is looked at
            assert pages.cached(file.fileno(), 0, at)
            assert not pages.cached(file.fileno(), pages.PAGE, at + pages.PAGE)
    reading, writing = os.pipe()
    try:
        assert not pages.cached(reading, 0, 0)
        assert pages.cached(reading, 0)  # nobody can say
    finally:
        os.close(reading)
        os.close(writing)
