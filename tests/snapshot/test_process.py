from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.snapshot.process import FINAL, NEXT, Save, State


def paths() -> list[list[State]]:
    """Every way through the machine, from idle on."""
    found, growing = [], [[State.IDLE]]
    while growing:
        path = growing.pop()
        following = NEXT[path[-1]]
        if not following:
            found.append(path)
        growing += [[*path, state] for state in following]
    return found


GOOD = [path for path in paths() if path[-1] is not State.FAILED]


def test_every_state_is_reached_and_every_way_ends() -> None:
    assert {state for path in paths() for state in path} == set(State)
    assert {path[-1] for path in paths()} == set(FINAL)


def test_a_gpu_is_locked_before_it_is_checkpointed() -> None:
    for path in GOOD:
        assert (State.GPU_LOCKED in path) == (State.GPU_CHECKPOINTED in path)


@given(st.sampled_from(GOOD), st.data())
def test_a_failure_anywhere_undoes_all_that_was_done_last_first(
    path: list[State], data: st.DataObject
) -> None:
    cut = data.draw(st.integers(1, len(path) - 1))
    failing = data.draw(st.sets(st.sampled_from(path[1:cut] or [State.READY])))
    undone: list[State] = []

    def undo(state: State) -> None:
        undone.append(state)
        if state in failing:
            raise OSError("this undo fails")

    save = Save()

    def run() -> None:
        with save:
            for state in path[1:cut]:
                save.enter(state, lambda state=state: undo(state))
            raise ZeroDivisionError

    with pytest.raises((ZeroDivisionError, OSError)):
        run()
    assert undone == list(reversed(path[1:cut]))
    assert save.state is State.FAILED


@given(st.sampled_from(GOOD))
def test_a_good_way_undoes_nothing_by_itself(path: list[State]) -> None:
    told: list[State] = []
    undone: list[State] = []
    with Save(told.append) as save:
        for state in path[1:]:
            save.enter(state, lambda state=state: undone.append(state))
        save.forget()
    assert told == path[1:]
    assert undone == []


@pytest.mark.parametrize("state", list(State))
def test_nothing_else_follows(state: State) -> None:
    for other in set(State) - NEXT[state]:
        save = Save()
        save.state = state
        with pytest.raises(ValueError, match="does not lead to"):
            save.enter(other)
