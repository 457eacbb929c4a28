from __future__ import annotations

import itertools

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zerostart_jupyter.load.checkpoint import Entry
from zerostart_jupyter.load.plan import ALIGN, FEW, Block, Plan


def entries(*spans: tuple[int, int], shard: int = 0) -> list[Entry]:
    return [
        Entry(f"{shard}.{number}", "U8", (stop - start,), shard, start, stop)
        for number, (start, stop) in enumerate(spans)
    ]


def drain(plan: Plan) -> list[Block]:
    taken = []
    while (block := plan.take()) is not None:
        taken.append(block)
    return taken


@st.composite
def tables(draw: st.DrawFn) -> list[Entry]:
    """Tensors of some shards, with gaps between them as a choice of tensors leaves them.

    Tied names, and parts of them, are the bytes of others.
    """
    found = []
    for shard in range(draw(st.integers(1, 3))):
        at = draw(st.integers(8, 3 * ALIGN))
        for number in range(draw(st.integers(0, 6))):
            at += draw(st.sampled_from([0, 0, 1, ALIGN, 9 * ALIGN]))
            size = draw(st.sampled_from([0, 1, 7, ALIGN - 1, ALIGN, 5 * ALIGN + 3]))
            found.append(Entry(f"{shard}.{number}", "U8", (size,), shard, at, at + size))
            at += size
    whole = [entry for entry in found if entry.nbytes]
    for number in range(draw(st.integers(0, 3)) if whole else 0):
        entry = draw(st.sampled_from(whole))
        start = draw(st.integers(entry.start, entry.stop - 1))
        stop = draw(st.integers(start, entry.stop))
        found.append(entry._replace(name=f"tied.{number}", start=start, stop=stop))
    return draw(st.permutations(found))


@settings(max_examples=200, deadline=None)
@given(
    tables(),
    st.integers(1, 4).map(lambda pages: pages * ALIGN),
    st.sampled_from([0, ALIGN, 16 * ALIGN]),
)
def test_blocks_hold_every_wanted_byte_once(table: list[Entry], block: int, gap: int) -> None:
    plan = Plan(table, block=block, gap=gap)
    covered: dict[str, list[tuple[int, int]]] = {}
    for index, each in enumerate(plan.blocks):
        assert each.number == index
        assert each.start % ALIGN == 0
        assert 0 < each.stop - each.start <= block
        assert each.pieces, "a block without a tensor's byte is not read"
        if not any(entry.name.startswith("tied") for entry in table):
            assert each.payload <= each.stop - each.start
        for piece in each.pieces:
            assert piece.entry.shard == each.shard
            assert each.start <= piece.start < piece.stop <= each.stop
            covered.setdefault(piece.entry.name, []).append((piece.start, piece.stop))
    for entry in table:
        spans = sorted(covered.pop(entry.name, []))
        if entry.nbytes == 0:
            assert spans == []
            assert entry.name in plan.empty
            continue
        assert spans[0][0] == entry.start
        assert spans[-1][1] == entry.stop
        assert all(before[1] == after[0] for before, after in itertools.pairwise(spans))
    assert covered == {}


@settings(max_examples=100, deadline=None)
@given(tables(), st.data())
def test_whatever_is_lifted_every_block_is_taken_once_and_every_tensor_completed_once(
    table: list[Entry], data: st.DataObject
) -> None:
    size = data.draw(st.sampled_from([ALIGN, 4 * ALIGN]))
    plan = Plan(table, block=size, step=ALIGN)
    names = [entry.name for entry in table]
    taken: list[int] = []
    whole: list[str] = list(plan.empty)
    flying: list[Block] = []
    while not plan.exhausted or flying:
        if names and data.draw(st.booleans()):
            plan.lift(data.draw(st.lists(st.sampled_from(names), max_size=2)))
        between = plan.between() if data.draw(st.booleans()) else None
        if between is not None:
            assert size > ALIGN
            assert between.stop - between.start <= ALIGN
            flying.append(between)
        block = plan.take()
        if block is not None:
            taken.append(block.number)
            flying.append(block)
        if flying and (block is None or data.draw(st.booleans())):
            finished = flying.pop(data.draw(st.integers(0, len(flying) - 1)))
            whole += [entry.name for entry in plan.finish(finished)]
    assert plan.take() is None
    assert sorted(taken) == list(range(len(plan.blocks)))
    assert sorted(whole) == sorted(names)


def test_file_order_is_the_order_when_nobody_waits() -> None:
    table = entries((8, 3 * ALIGN), shard=1) + entries((8, ALIGN), (ALIGN, 2 * ALIGN), shard=0)
    plan = Plan(table, block=ALIGN)
    assert [(block.shard, block.start) for block in drain(plan)] == [
        (0, 0),
        (0, ALIGN),
        (1, 0),
        (1, ALIGN),
        (1, 2 * ALIGN),
    ]


def test_a_demanded_tensor_comes_next_and_earlier_demands_stay_ahead() -> None:
    spans = [(number * ALIGN, (number + 1) * ALIGN) for number in range(6)]
    plan = Plan(entries(*spans), block=ALIGN)
    first = plan.take()
    assert first is not None
    plan.lift(["0.4"])
    plan.lift(["0.2", "0.0", "unknown"])
    assert [first.number, *(block.number for block in drain(plan))] == [0, 4, 2, 1, 3, 5]


def test_neighbours_come_in_one_read_and_far_ones_do_not() -> None:
    table = entries((10, 100), (100 + ALIGN, 200 + ALIGN), (99 * ALIGN, 99 * ALIGN + 5))
    assert [len(block.pieces) for block in Plan(table, block=8 * ALIGN, gap=ALIGN).blocks] == [2, 1]
    assert [len(block.pieces) for block in Plan(table, block=8 * ALIGN, gap=0).blocks] == [1, 1, 1]


def test_the_budget_bounds_what_is_in_flight() -> None:
    plan = Plan(entries((0, 6 * ALIGN)), block=2 * ALIGN, budget=4 * ALIGN)
    first, second = plan.take(), plan.take()
    assert first is not None
    assert second is not None
    assert plan.take() is None
    assert not plan.exhausted
    plan.finish(first)
    assert plan.take() is not None
    assert plan.exhausted


def test_a_block_beyond_the_budget_is_still_read_alone() -> None:
    plan = Plan(entries((0, 4 * ALIGN)), block=2 * ALIGN, budget=1)
    first = plan.take()
    assert first is not None
    assert plan.take() is None
    plan.finish(first)
    assert plan.take() is not None


@pytest.mark.parametrize("block", [0, 1000, ALIGN + 1, -ALIGN])
def test_a_block_is_a_multiple_of_the_alignment(block: int) -> None:
    with pytest.raises(ValueError, match="multiple of 4096"):
        Plan([], block=block)


def test_an_order_of_need_comes_before_the_files_and_demands_before_both() -> None:
    spans = [(number * ALIGN, (number + 1) * ALIGN) for number in range(6)]
    plan = Plan(entries(*spans), block=ALIGN, order=["0.5", "0.3", "unknown", "0.4"])
    plan.lift(["0.2"])
    assert [block.number for block in drain(plan)] == [2, 5, 3, 4, 0, 1]


def test_what_is_waited_for_comes_between_the_steps_of_large_blocks() -> None:
    spans = [(0, 8 * ALIGN), (8 * ALIGN, 8 * ALIGN + 5), (9 * ALIGN, 16 * ALIGN)]
    plan = Plan(entries(*spans), block=16 * ALIGN, step=4 * ALIGN)
    block = plan.take()
    assert block is not None
    assert plan.between() is None
    assert [step.start for step in block.steps(4 * ALIGN)] == [n * 4 * ALIGN for n in range(4)]
    plan.lift(["0.1", "0.2"])
    plan.lift(["0.1", "unknown"])
    small, first, second = plan.between(), plan.between(), plan.between()
    assert small is not None
    assert first is not None
    assert second is not None
    assert plan.between() is None
    assert (small.start, small.stop) == (8 * ALIGN, 8 * ALIGN + 5)
    assert (first.start, second.start, second.stop) == (9 * ALIGN, 13 * ALIGN, 16 * ALIGN)
    assert [entry.name for entry in plan.finish(small)] == ["0.1"]
    assert plan.finish(second) == []
    assert [entry.name for entry in plan.finish(block)] == ["0.0", "0.2"]
    assert plan.finish(first) == [], "it was whole before"


def test_many_at_once_keep_the_order_of_the_file() -> None:
    spans = [(number * 10, (number + 1) * 10) for number in range(FEW + 1)]
    plan = Plan(entries(*spans), block=2 * ALIGN, step=ALIGN)
    plan.lift([f"0.{number}" for number in range(FEW + 1)])
    assert plan.between() is None
    plan.lift(["0.3"])
    assert plan.between() is not None


def test_what_is_kept_apart_shares_no_block() -> None:
    spans = [(number * 100, (number + 1) * 100) for number in range(6)]
    plan = Plan(entries(*spans), block=ALIGN, apart=lambda name: name > "0.2")
    assert [[piece.entry.name for piece in block.pieces] for block in plan.blocks] == [
        ["0.0", "0.1", "0.2"],
        ["0.3", "0.4", "0.5"],
    ]
