"""The difference between two readings, folded into the first, is the second."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.events import Event, State
from zerostart_jupyter.jupyter.server.changes import changes, gone
from zerostart_jupyter.jupyter.server.wire import operations


@st.composite
def histories(draw: st.DrawFn) -> list[Event]:
    """Operations that open, work on items and end, interleaved, with time going on."""
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from(["install-1", "load-2", "snapshot-3"]),
                st.sampled_from(["", "", "torch", "numpy"]),
                st.sampled_from(list(State)),
                st.integers(0, 100),
            ),
            max_size=30,
        )
    )
    return [
        Event(operation, operation[:4], operation, item, state, done, 100, "bytes", float(time))
        for time, (operation, item, state, done) in enumerate(steps)
    ]


def reading(events: Sequence[Event]) -> list[dict[str, Any]]:
    """What the server reads out of a status file that was written after these events."""
    return operations(json.loads(json.dumps(Activity().fold(events).as_json())))


def told(readings: Sequence[list[dict[str, Any]]]) -> list[dict[str, Any]]:
    """What the panel knows that heard of each reading by its changes only."""
    activity = Activity()
    before: list[dict[str, Any]] = []
    for after in readings:
        heard = [Event(**{**raw, "state": State(raw["state"])}) for raw in changes(before, after)]
        folded = dict(activity.fold(heard).operations)
        for vanished in gone(before, after):
            del folded[vanished]
        activity = Activity(folded)
        before = after
    return operations(activity.as_json())


@given(histories(), st.lists(st.integers(0, 30), max_size=6))
def test_the_panel_knows_what_the_file_says(history: list[Event], cuts: list[int]) -> None:
    readings = [reading(history[:cut]) for cut in sorted({*cuts, len(history)})]
    assert told(readings) == readings[-1]


@given(histories(), histories())
def test_a_restarted_kernel_begins_anew(first: list[Event], second: list[Event]) -> None:
    renamed = [
        Event(**{**{n: getattr(e, n) for n in e.__slots__}, "operation": f"{e.operation}-b"})
        for e in second
    ]
    assert told([reading(first), reading(renamed)]) == reading(renamed)


@given(histories())
def test_nothing_is_said_of_what_stayed_the_same(history: list[Event]) -> None:
    assert changes(reading(history), reading(history)) == []
    assert gone(reading(history), reading(history)) == []


def test_only_the_items_that_moved_are_told() -> None:
    def event(item: str, time: float) -> Event:
        return Event("install-1", "install", "a", item, State.RUNNING, time, 9, "bytes", time)

    before = [event("", 0), *(event(f"wheel{number}", 1) for number in range(100))]
    heard = changes(reading(before), reading([*before, event("wheel7", 2)]))
    assert [raw["item"] for raw in heard] == ["wheel7", ""]
