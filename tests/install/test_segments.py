from __future__ import annotations

import random
import threading
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from tests.install.wheels import noise
from tests.patience import PATIENCE, eventually
from zerostart_jupyter.install.assembly import Assembly, Consumer
from zerostart_jupyter.install.segments import Agenda, Buffers, Segment, cut


@st.composite
def kept(draw: st.DrawFn) -> tuple[int, list[tuple[int, int]]]:
    total = draw(st.integers(1, 200))
    edges = sorted(draw(st.sets(st.integers(0, total), max_size=8)))
    return total, [(edges[n], edges[n + 1]) for n in range(0, len(edges) - 1, 2)]


@given(kept(), st.integers(1, 50))
def test_segments_tile_the_file(given_: tuple[int, list[tuple[int, int]]], chunk: int) -> None:
    total, have = given_
    segments = cut(total, chunk, have)
    assert segments[0].start == 0
    assert segments[-1].stop == total
    assert all(a.stop == b.start for a, b in pairwise(segments))
    assert all(0 < len(each) <= chunk for each in segments)
    for each in segments:
        inside = any(start <= each.start and each.stop <= stop for start, stop in have)
        assert inside == each.kept


@given(kept(), st.integers(1, 50), st.randoms(use_true_random=False), st.data())
def test_every_consumer_gets_its_bytes_in_order(
    given_: tuple[int, list[tuple[int, int]]],
    chunk: int,
    chance: random.Random,
    data: st.DataObject,
) -> None:
    """Whatever the order of arrival; and every byte of memory is given back, once."""
    total, have = given_
    body = noise(total)
    segments = cut(total, chunk, have)
    edges = sorted(data.draw(st.sets(st.integers(0, total), max_size=6)) | {0})
    taken: dict[Consumer, bytearray] = {}

    def consumer(start: int, stop: int) -> Consumer:
        content = bytearray()
        made = Consumer(start, stop, content.extend)
        taken[made] = content
        return made

    whole = consumer(0, total)
    parts = [consumer(a, b) for a, b in pairwise(edges) if a < b < total]
    assembly = Assembly(segments, [whole, *parts])
    order = list(segments)
    chance.shuffle(order)
    freed = 0
    for segment in order:
        for each in assembly.arrive(segment, memoryview(body)[segment.start : segment.stop]):
            while pieces := assembly.take(each):
                for piece, source in pieces:
                    each.feed(piece)
                    freed += assembly.fed(each, piece, source)
    assert freed == total
    assert assembly.open == 0
    for each, content in taken.items():
        assert bytes(content) == body[each.start : each.stop]


def drained(agenda: Agenda[str]) -> list[str]:
    found = []
    while (job := agenda.take()) is not None:
        found.append(job[1])
    return found


def test_the_heaviest_wheel_comes_first() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add("small", "s1", weight=1)
    agenda.add("big", "b1", weight=10)
    agenda.add("big", "b2", weight=10)
    assert drained(agenda) == ["b1", "b2", "s1"]


def test_a_demand_overtakes_and_keeps_the_order_of_demands() -> None:
    agenda: Agenda[str] = Agenda()
    for name in ("big", "second", "first"):
        agenda.add(name, name, weight=len(name))
    agenda.promote(["first"])
    agenda.promote(["second", "first"])
    assert drained(agenda) == ["first", "second", "big"]


def test_what_nobody_waits_for_can_be_left() -> None:
    agenda: Agenda[str] = Agenda()
    assert agenda.take(awaited=True) is None
    agenda.add("big", "big", weight=9)
    agenda.add("wanted", "wanted")
    assert agenda.take(awaited=True) is None
    agenda.promote(["wanted"])
    assert agenda.take(awaited=True) == ("wanted", "wanted")
    assert agenda.take(awaited=True) is None
    assert agenda.take() == ("big", "big")


def test_directories_come_before_bodies_unless_a_body_is_demanded() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add("a", "body of a", weight=100, phase=1)
    agenda.add("b", "end of b", phase=0)
    agenda.add("c", "body of c", weight=1, phase=1)
    agenda.promote(["c"])
    assert drained(agenda) == ["body of c", "end of b", "body of a"]


def test_nothing_lighter_overtakes_what_has_no_room() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add("big", "big", weight=9, cost=9)
    agenda.add("small", "small", weight=1, cost=1)
    assert agenda.take(5) is None
    assert agenda.take(9) == ("big", "big")
    assert agenda.take(1) == ("small", "small")
    assert len(agenda) == 0


def test_what_is_dropped_is_gone() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add("a", "a")
    agenda.drop("a")
    agenda.drop("b")
    assert agenda.take() is None


def test_a_segment_is_as_long_as_its_bytes() -> None:
    assert len(Segment(3, 10)) == 7


def test_memory_of_segments_is_used_again() -> None:
    buffers = Buffers(1000)
    first = buffers.take(1000)
    base = first.obj
    buffers.give(first)
    again = buffers.take(700)
    assert again.obj is base
    assert len(again) == 700
    assert buffers.take(1000).obj is not base  # while somebody has it


def test_small_and_foreign_memory_is_not_kept() -> None:
    buffers = Buffers(1000)
    small = buffers.take(10)
    buffers.give(small)
    buffers.give(memoryview(b"x" * 1000))
    assert len(small) == 10
    fresh = buffers.take(1000)
    assert isinstance(fresh.obj, bytearray)


def test_an_agenda_knows_who_is_awaited() -> None:
    agenda: Agenda[str] = Agenda()
    agenda.add("a", "job")
    agenda.promote(["a"])
    assert agenda.promoted("a")
    assert not agenda.promoted("b")


def test_an_agenda_calls_as_many_as_it_has_jobs_for() -> None:
    """16 fetchers that wake for each of 123 wheels took longer than all of the linking."""
    lock = threading.RLock()
    agenda: Agenda[str] = Agenda(lock)
    woken = []

    def wait() -> None:
        with lock:
            agenda.called.wait(PATIENCE)
            woken.append(agenda.take())

    threads = [threading.Thread(target=wait) for _ in range(4)]
    for thread in threads:
        thread.start()
    eventually(lambda: len(agenda.called._waiters) == 4)  # type: ignore[attr-defined]
    with lock:
        agenda.call()
    with lock:
        agenda.add("a", "one")
        agenda.add("a", "two")
        agenda.call()
    eventually(lambda: len(woken) == 2)
    assert len(agenda.called._waiters) == 2  # type: ignore[attr-defined]
    with lock:
        agenda.call(all_=True)
    for thread in threads:
        thread.join(PATIENCE)
    assert woken[2:] == [None, None]
