from __future__ import annotations

import pytest

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import partial
from zerostart_jupyter.install.partial import Partial

SHA = "a" * 64
TOTAL = 2 * partial.WORTHWHILE


def write_one(store: Store) -> Partial:
    kept = Partial.find(store, SHA, TOTAL)
    assert kept is not None
    kept.write(10, memoryview(b"block"))
    kept.close()
    again = Partial.find(store, SHA, TOTAL)
    assert again is not None
    return again


def test_what_came_slowly_is_there_for_the_next_process(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "QUICK", 0.0)
    again = write_one(store)
    assert again.have == [(10, 15)]
    into = memoryview(bytearray(5))
    assert again.read(10, into)
    assert bytes(into) == b"block"
    again.discard()


def test_what_comes_at_once_is_not_written_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "QUICK", 1e9)
    again = write_one(store)
    assert again.have == []
    again.discard()


def test_the_time_of_a_link_is_that_in_which_something_comes(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = 0.0
    monkeypatch.setattr(partial.time, "monotonic", lambda: now)
    kept = Partial(store, SHA, TOTAL)
    half = memoryview(bytes(TOTAL // 2))
    now = 10.0  # unpacking took all of it
    with kept.receiving():
        with kept.receiving():
            now += partial.QUICK / 4
        now += partial.QUICK / 5
        kept.write(0, half)
    now += 10.0
    with kept.receiving():
        now += partial.QUICK / 2
        kept.write(len(half), half[:5])  # so far half of it took almost as long as all of it may
        now += partial.QUICK / 10
        kept.write(len(half) + 5, half[:5])
    kept.close()
    again = Partial(store, SHA, TOTAL)
    assert again.have == [(len(half), len(half) + 10)]
    again.discard()


def test_a_small_wheel_is_not_worth_it(store: Store) -> None:
    assert Partial.find(store, SHA, partial.WORTHWHILE - 1) is None


def test_what_was_wrong_is_forgotten_also_where_somebody_else_holds_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(partial, "QUICK", 0.0)
    one, other = write_one(store), Partial(store, SHA, TOTAL)
    assert other.have == [(10, 15)]
    one.discard()
    other.write(20, memoryview(b"fresh"))
    again = Partial(store, SHA, TOTAL)
    assert again.have == [(20, 25)]
    other.close()
    again.discard()
    assert not store.path(partial.ROOM, SHA).exists()
