from __future__ import annotations

import threading

import pytest

from tests.patience import PATIENCE
from zerostart_jupyter.install.courtesy import Courtesy


def enter(courtesy: Courtesy, times: int) -> None:
    for _ in range(times):
        courtesy.enter(lambda: None)


def test_nothing_is_held_back_before_a_server_pushes_back() -> None:
    courtesy = Courtesy()
    enter(courtesy, 100)
    assert courtesy.limit is None


def test_a_push_halves_what_is_sent_at_once() -> None:
    courtesy = Courtesy()
    enter(courtesy, 16)
    for _ in range(3):  # refused together
        courtesy.leave(refused=True)
    assert courtesy.limit == 7
    for _ in range(13):
        courtesy.leave(refused=True)
    assert courtesy.limit == 1


def test_the_next_one_waits_for_room() -> None:
    courtesy = Courtesy()
    enter(courtesy, 2)
    courtesy.leave(refused=True)
    waits = threading.Event()
    entered = threading.Event()

    def late() -> None:
        courtesy.enter(waits.set)
        entered.set()

    thread = threading.Thread(target=late)
    thread.start()
    assert waits.wait(PATIENCE)
    assert not entered.is_set()
    courtesy.leave()
    assert entered.wait(PATIENCE)
    thread.join(PATIENCE)


def test_waiting_ends_when_the_work_does() -> None:
    courtesy = Courtesy()
    enter(courtesy, 2)
    courtesy.leave(refused=True)

    def stop() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError):
        courtesy.enter(stop)


def test_what_goes_well_is_slowly_tried_again() -> None:
    courtesy = Courtesy()
    enter(courtesy, 4)
    courtesy.leave(refused=True)
    assert courtesy.limit == 2
    courtesy.leave()
    courtesy.leave()
    assert courtesy.limit == 3
