from __future__ import annotations

import errno
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import backing
from zerostart_jupyter.snapshot.backing import ROOM, TAIL, Backed, Batch

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


@pytest.fixture
def pages(tmp_path: Path) -> Iterator[int]:
    """What CRIU wrote: eight pages."""
    (tmp_path / "pages").write_bytes(random.Random(1).randbytes(8 * PAGE))
    opened = os.open(tmp_path / "pages", os.O_RDONLY)
    yield opened
    os.close(opened)


def tick(folder: Path) -> None:
    """Wait until the file system's clock goes on: older systems count in steps of 4 ms."""
    probe = folder / "probe"
    probe.touch()
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.touch()
    probe.unlink()


def saved(store: Store, key: str, pages: int, *runs: tuple[int, int, int]) -> Backed:
    """One file of eight pages, saved and no longer held."""
    with Batch(store, key) as batch:
        found = batch.add(pages, runs or [(0, 8 * PAGE, 0)], 8 * PAGE)
        assert found is not None
    for lease in batch.keep.values():
        lease.close()
    return found


def test_data_lies_where_it_was_with_zeros_between_and_behind(store: Store, pages: int) -> None:
    found = saved(store, "a", pages, (PAGE, 2 * PAGE, 0), (5 * PAGE, PAGE, 4 * PAGE))
    data = os.pread(pages, 8 * PAGE, 0)
    content = bytes(PAGE) + data[: 2 * PAGE] + bytes(2 * PAGE) + data[4 * PAGE : 5 * PAGE]
    with found.path.open("rb") as stream:
        assert stream.read(9 * PAGE) == content + bytes(3 * PAGE)
    status = found.path.stat()
    assert status.st_size == 8 * PAGE + TAIL
    assert status.st_blocks * 512 < 64 * PAGE
    assert status.st_mode & 0o777 == 0o400
    backing.verify(store, [found], thorough=True)


def test_the_same_data_is_kept_once(store: Store, pages: int) -> None:
    first = saved(store, "a", pages)
    with Batch(store, "b") as batch:
        assert batch.add(pages, [(0, 8 * PAGE, 0)], 8 * PAGE) == first
        assert batch.bytes == 0
        assert not backing.collect(store, set())  # the batch holds what it refers to
    assert [entry.key for entry in store.entries(ROOM)] == ["a"]


def test_data_that_was_damaged_is_not_referred_to(store: Store, pages: int) -> None:
    first = saved(store, "a", pages)
    tick(store.root)
    first.path.chmod(0o600)
    second = saved(store, "b", pages)
    assert second.path != first.path
    assert second.digest == first.digest


def test_a_save_that_fails_leaves_nothing(store: Store, pages: int) -> None:
    def give_up() -> None:
        with Batch(store, "a") as batch:
            batch.add(pages, [(0, 8 * PAGE, 0)], 8 * PAGE)
            raise KeyError

    with pytest.raises(KeyError):
        give_up()
    assert store.entries(ROOM) == []
    assert list((store.root / ROOM).iterdir()) == []


def test_pages_that_are_cut_off_are_noticed(store: Store, pages: int) -> None:
    with pytest.raises(SnapshotCorrupt, match="cut off"), Batch(store, "a") as batch:
        batch.add(pages, [(0, 9 * PAGE, 0)], 9 * PAGE)


def test_where_no_file_can_be_that_long_nothing_is_mapped(
    store: Store, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(descriptor: int, length: int) -> None:
        raise OSError(errno.EFBIG, "File too large")

    monkeypatch.setattr(os, "ftruncate", refuse)
    with Batch(store, "a") as batch:
        assert batch.add(pages, [(0, PAGE, 0)], PAGE) is None
    assert store.entries(ROOM) == []


def test_files_stay_while_somebody_needs_them(store: Store, pages: int) -> None:
    found = saved(store, "a", pages)
    assert backing.collect(store, {"a"}) == 0
    (lease,) = backing.hold(store, [found.path, "/usr/lib/libc.so"])
    assert backing.collect(store, set()) == 0
    lease.close()
    assert backing.collect(store, set()) == 1
    with pytest.raises(SnapshotCorrupt, match="is gone"):
        backing.verify(store, [found])


def test_a_cache_behind_a_link_is_known_by_both_names(tmp_path: Path, pages: int) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    store = Store(tmp_path / "link")
    found = saved(store, "a", pages)
    assert found.path == tmp_path / "real" / ROOM / "a" / found.digest
    assert backing.of(store, [found.path]) == [found]
    assert len(backing.hold(store, [found.path])) == 1


def test_what_is_mapped_from_elsewhere_is_not_ours(store: Store, pages: int) -> None:
    found = saved(store, "a", pages)
    assert backing.of(store, ["/usr/lib/libc.so", found.path, str(found.path)]) == [found]


@pytest.mark.parametrize("seed", range(50))
def test_damage_anywhere_is_refused(store: Store, pages: int, seed: int) -> None:
    found = saved(store, "a", pages)
    backing.verify(store, [found])
    chance = random.Random(seed)
    # Half of them in the data, and half in the hole behind it.
    at = chance.randrange(found.length) if seed % 2 else found.length + chance.randrange(TAIL)
    tick(store.root)
    with found.path.open("r+b") as stream:
        stream.seek(at)
        before = stream.read(1)
        stream.seek(at)
        stream.write(bytes([before[0] ^ 0xFF]))
    with pytest.raises(SnapshotCorrupt, match="is not what was written"):
        backing.verify(store, [found])


def test_a_file_that_was_only_touched_is_still_right(store: Store, pages: int) -> None:
    found = saved(store, "a", pages)
    os.utime(found.path)
    backing.verify(store, [found])


def test_a_file_that_was_cut_is_refused(store: Store, pages: int) -> None:
    found = saved(store, "a", pages)
    os.truncate(found.path, found.length)
    with pytest.raises(SnapshotCorrupt, match="is not what was written"):
        backing.verify(store, [found])


def test_only_a_thorough_look_reads_the_data(
    store: Store, pages: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = saved(store, "a", pages)
    # As a disk would that lost a bit: nobody has written to the file.
    with found.path.open("r+b") as stream:
        stream.write(b"\x00\x01")
    entry = store.get(ROOM, "a")
    assert entry is not None
    length, *_ = entry.about["files"][found.digest]
    entry.about["files"][found.digest] = [length, *backing.identity(found.path)]
    monkeypatch.setattr(Store, "get", lambda *_: entry)
    backing.verify(store, [found])
    with pytest.raises(SnapshotCorrupt, match="is not what was written"):
        backing.verify(store, [found], thorough=True)
