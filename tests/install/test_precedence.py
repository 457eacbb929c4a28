from __future__ import annotations

from types import SimpleNamespace

import pytest

from zerostart_jupyter.install import precedence
from zerostart_jupyter.install.gate import gate
from zerostart_jupyter.install.precedence import MOST, Precedence


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(precedence, "time", SimpleNamespace(monotonic=made.monotonic))
    monkeypatch.setattr(gate, "looked", 0.0)
    return made


@pytest.fixture
def given(clock: Clock) -> Precedence:
    made = Precedence()
    assert not made.given
    made.give()
    return made


def test_it_lasts_while_somebody_waits_but_not_for_long(clock: Clock, given: Precedence) -> None:
    given.review(True)
    clock.now += MOST
    given.review(True)
    assert given.given
    clock.now += 0.01
    given.review(True)
    assert not given.given
    given.review(True)
    assert not given.given


def test_what_has_come_is_imported_meanwhile(clock: Clock, given: Precedence) -> None:
    clock.now += 0.9 * MOST
    given.review(False)
    clock.now += 0.09
    given.review(False)
    assert given.given
    gate.looked = clock.now
    clock.now += 0.09
    given.review(False)
    assert given.given
    clock.now += 0.02
    given.review(False)
    assert not given.given


def test_an_import_that_takes_long_does_not_hold_up_the_rest(
    clock: Clock, given: Precedence
) -> None:
    given.review(False)
    for _ in range(20):
        clock.now += MOST / 20
        gate.looked = clock.now
        given.review(False)
        assert given.given
    clock.now += 0.01
    given.review(False)
    assert not given.given


def test_what_came_after_its_time_is_imported_alone_all_the_same(
    clock: Clock, given: Precedence
) -> None:
    clock.now += 2 * MOST
    given.review(True)
    assert not given.given
    given.review(False)
    assert given.given
