from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.snapshot.test_areas import BASE, allocation, dumped, pages_of, vma
from tests.snapshot.test_arenas import HEAP, POOL, chunks, pools
from tests.snapshot.test_backing import tick
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import backing, mapped
from zerostart_jupyter.snapshot.areas import PAGE, Memory
from zerostart_jupyter.snapshot.backing import Batch

LENGTH = 320 * PAGE  # of the heaps here: more than is worth a file of its own


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def saved(store: Store, images: Path, *before: Path, key: str | None = None) -> int:
    """Map what can be mapped; returns the bytes that this added to the store and left in pages."""
    with Batch(store, key or f"k{len(store.entries('memory'))}") as batch:
        mapped.out(images, batch, PAGE, lambda: None, lambda: iter(before))
    for lease in batch.keep.values():
        lease.close()
    return batch.bytes + Memory(images, 7).pages.stat().st_size


def a_heap(images: Path, content: bytes, *, born: int = BASE) -> dict[int, bytes]:
    """The images of a process with this heap; returns its pages."""
    at = (born - BASE) // PAGE
    dumped(
        images,
        [vma(at, at + len(content) // PAGE, status=HEAP)],
        [(at, content)],
        heap=(born, born + len(content)),
    )
    return pages_of(images)


def test_a_second_save_holds_the_pages_that_changed(store: Store, tmp_path: Path) -> None:
    first = chunks(LENGTH, 4096)
    a_heap(tmp_path / "one", first)
    assert saved(store, tmp_path / "one") == LENGTH
    second = bytearray(first)
    for page in (3, 4, 200):
        second[page * PAGE + 100] ^= 1
    before = a_heap(tmp_path / "two", bytes(second))
    assert saved(store, tmp_path / "two", tmp_path / "one") == 3 * PAGE
    assert pages_of(tmp_path / "two") == before
    assert len(store.entries("memory")) == 1


def test_a_heap_that_grew_finds_what_it_had(store: Store, tmp_path: Path) -> None:
    first = chunks(LENGTH, 4096)
    a_heap(tmp_path / "one", first)
    saved(store, tmp_path / "one")
    grown = first + os.urandom(LENGTH)
    grown = grown[:4104] + (2 * LENGTH - 4096 | 1).to_bytes(8, "little") + grown[4112:]
    before = a_heap(tmp_path / "two", grown)
    assert saved(store, tmp_path / "two", tmp_path / "one") == LENGTH + PAGE
    assert pages_of(tmp_path / "two") == before


def test_another_process_shares_nothing_by_its_addresses(store: Store, tmp_path: Path) -> None:
    a_heap(tmp_path / "one", chunks(LENGTH, 4096))
    saved(store, tmp_path / "one")
    changed = bytearray(chunks(LENGTH, 4096))
    changed[-1] ^= 1
    a_heap(tmp_path / "two", bytes(changed), born=BASE + LENGTH)
    assert saved(store, tmp_path / "two", tmp_path / "one") == LENGTH


def test_what_mostly_changed_gets_a_file_of_its_own(store: Store, tmp_path: Path) -> None:
    first = chunks(LENGTH, 4096)
    a_heap(tmp_path / "one", first)
    saved(store, tmp_path / "one")
    second = first[: LENGTH // 4] + os.urandom(3 * LENGTH // 4)
    before = a_heap(tmp_path / "two", second)
    assert saved(store, tmp_path / "two", tmp_path / "one") == LENGTH
    assert Memory(tmp_path / "two", 7).runs == []
    assert pages_of(tmp_path / "two") == before


def test_zeros_are_never_taken_from_a_file_that_holds_something_there(
    store: Store, tmp_path: Path
) -> None:
    first = chunks(LENGTH, 4096)
    a_heap(tmp_path / "one", first)
    saved(store, tmp_path / "one")
    dumped(
        tmp_path / "two",
        [vma(0, 320, status=HEAP)],
        [(0, first[: 8 * PAGE]), (9, first[9 * PAGE :])],  # one page was given back
        heap=(BASE, BASE + LENGTH),
    )
    before = pages_of(tmp_path / "two")
    saved(store, tmp_path / "two", tmp_path / "one")
    assert pages_of(tmp_path / "two") == before


def test_a_damaged_file_is_not_referred_to(store: Store, tmp_path: Path) -> None:
    a_heap(tmp_path / "one", chunks(LENGTH, 4096))
    saved(store, tmp_path / "one")
    (path,) = (each for each in store.path("memory", "k0").iterdir() if len(each.name) == 64)
    tick(store.root)
    path.chmod(0o600)
    before = a_heap(tmp_path / "two", chunks(LENGTH, 4096))
    assert saved(store, tmp_path / "two", tmp_path / "one") == LENGTH
    assert pages_of(tmp_path / "two") == before


def test_a_file_is_kept_while_a_save_refers_to_it(store: Store, tmp_path: Path) -> None:
    a_heap(tmp_path / "one", chunks(LENGTH, 4096))
    saved(store, tmp_path / "one")
    a_heap(tmp_path / "two", chunks(LENGTH, 4096))
    with Batch(store, "other") as batch:
        mapped.out(tmp_path / "two", batch, PAGE, lambda: None, lambda: iter([tmp_path / "one"]))
        assert backing.collect(store, set()) == 0
    for lease in batch.keep.values():
        lease.close()
    assert backing.collect(store, set()) == 1


def test_earlier_images_that_are_gone_or_damaged_are_passed_over(
    store: Store, tmp_path: Path
) -> None:
    a_heap(tmp_path / "one", chunks(LENGTH, 4096))
    saved(store, tmp_path / "one")
    a_heap(tmp_path / "bad", chunks(LENGTH, 4096))
    (tmp_path / "bad/pagemap-7.img").unlink()
    a_heap(tmp_path / "two", chunks(LENGTH, 4096))
    before = (tmp_path / "none", tmp_path / "bad", tmp_path / "one")
    assert saved(store, tmp_path / "two", *before) == 0


def test_an_allocation_that_changed_a_little_keeps_its_file(store: Store, tmp_path: Path) -> None:
    first = allocation(64)
    dumped(tmp_path / "one", [vma(0, 64)], [(0, first)])
    assert saved(store, tmp_path / "one") == 64 * PAGE
    second = first[: 9 * PAGE] + os.urandom(PAGE) + first[10 * PAGE :]
    dumped(tmp_path / "two", [vma(0, 64)], [(0, second)])
    before = pages_of(tmp_path / "two")
    assert saved(store, tmp_path / "two", tmp_path / "one") == PAGE
    assert pages_of(tmp_path / "two") == before


PARTS = ["allocation", "other", "gap", "stack", "pools", "library"]
described = st.tuples(
    st.lists(
        st.tuples(
            st.sampled_from(PARTS),
            st.integers(1, 12),
            st.integers(0, (1 << 12) - 1),  # which of its pages are present
        ),
        max_size=8,
    ),
    st.lists(st.tuples(st.integers(0, 95), st.integers(0, PAGE - 1)), max_size=6),
    st.integers(0, 95),
)


@given(described)
@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=60
)
def test_mapped_images_and_plain_ones_hold_the_same_memory(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    described: tuple[list[tuple[str, int, int]], list[tuple[int, int]], int],
) -> None:
    parts, changes, lost = described
    monkeypatch.setattr(mapped, "_WORTH", PAGE)
    (tmp_path / "lib.so").write_bytes(os.urandom(64 * PAGE))
    store = Store(tmp_path / "cache")
    pages, vmas = laid(parts)
    # The second dump is of the same process a while later: some pages written to, one let go.
    later = dict(pages)
    for page, place in changes:
        if page in later:
            content = bytearray(later[page])
            content[place] ^= 1
            later[page] = bytes(content)
    later.pop(lost, None)
    folders: list[Path] = []
    for name, present in (("one", pages), ("two", later)):
        images = tmp_path / name
        dumped(images, vmas, sorted(present.items()), libraries={5: tmp_path / "lib.so"})
        before = pages_of(images)
        saved(store, images, *folders)
        assert pages_of(images) == before
        folders.append(images)


def laid(
    parts: list[tuple[str, int, int]],
) -> tuple[dict[int, bytes], list[list[tuple[int, int, int | bytes]]]]:
    """The pages, by number, and the mappings of a process that has these one after the other."""
    pages: dict[int, bytes] = {}
    vmas = []
    at = 0
    for kind, count, present in parts:
        if kind == "pools":
            at = -(-at // (POOL // PAGE)) * (POOL // PAGE)
            content = pools(8, at + 1, BASE + at * PAGE)
            present = -1
        elif kind == "allocation":
            content = allocation(count)
        else:
            content = os.urandom(count * PAGE)
        length = len(content) // PAGE
        if kind == "library":
            vmas.append(vma(at, at + length, status=0x41, flags=2, prot=1, file=5))
        elif kind != "gap":
            vmas.append(vma(at, at + length, madv=1 << 15 if kind == "stack" else 0))
        if kind != "gap":
            for page in range(length):
                if present >> page & 1:
                    pages[at + page] = content[page * PAGE : (page + 1) * PAGE]
        at += length
    return pages, vmas
