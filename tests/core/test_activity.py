"""The fold, against the corpus that the panel's tests read too, and under any coalescing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.activity import Activity, OperationView
from zerostart_jupyter.core.events import Event, State

CORPUS = json.loads((Path(__file__).parents[1] / "corpus" / "activity.json").read_text())


def read(raw: dict[str, Any]) -> Event:
    return Event(**{**raw, "state": State(raw["state"])})


@pytest.mark.parametrize("case", CORPUS, ids=[case["name"] for case in CORPUS])
def test_corpus(case: dict[str, Any]) -> None:
    folded = Activity().fold(read(raw) for raw in case["events"])
    assert folded.as_json() == [
        {key: pytest.approx(value) if key == "rate" else value for key, value in view.items()}
        for view in case["expected"]
    ]


def test_fold_leaves_the_old_activity_alone() -> None:
    before = Activity().fold([event(0, "", State.WAITING)])
    before.fold([event(1, "", State.DONE)])
    assert before.operations["load-0"].state is State.WAITING


def test_a_view_without_time_has_no_rate() -> None:
    view = OperationView("a", "load", "a", State.RUNNING, started=5, updated=5, done=10, total=20)
    assert (view.seconds, view.rate, view.seconds_left) == (0, 0, None)


def event(time: float, item: str, state: State, operation: int = 0, done: float = 0) -> Event:
    name = f"load-{operation}"
    return Event(name, "load", name, item, state, done, None, "bytes", time)


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """What hubs emit: operations that open, work on items and end, interleaved."""
    steps = draw(
        st.lists(
            st.tuples(st.integers(0, 2), st.sampled_from(["", "a", "b", "c"]), st.integers(0, 9)),
            max_size=40,
        )
    )
    opened: set[int] = set()
    ended: set[int] = set()
    history: list[Event] = []
    for operation, item, done in steps:
        if operation in ended:
            continue
        if operation not in opened:
            opened.add(operation)
            history.append(event(len(history), "", State.WAITING, operation))
        state = State.RUNNING
        if done == 9:
            state = State.DONE
            ended |= {operation} if item == "" else set()
        history.append(event(len(history), item, state, operation, done))
    return history


def coalesce(batch: Sequence[Event], seen: set[str]) -> list[Event]:
    """What the hub does between two deliveries: first of an operation, last of each item."""
    kept: dict[tuple[str, str | None], Event] = {}
    for each in batch:
        first = each.operation not in seen
        seen.add(each.operation)
        kept[each.operation, None if first else each.item] = each
    return list(kept.values())


@given(histories(), st.data())
def test_coalescing_does_not_change_the_end(history: list[Event], data: st.DataObject) -> None:
    cuts = data.draw(st.lists(st.integers(0, len(history)), max_size=5).map(sorted))
    activity = Activity()
    seen: set[str] = set()
    for start, end in zip([0, *cuts], [*cuts, len(history)], strict=True):
        activity = activity.fold(coalesce(history[start:end], seen))
    assert activity == Activity().fold(history)
