from __future__ import annotations

import os
import threading
from collections.abc import Iterator

import pytest

from zerostart_jupyter.snapshot import door, revival
from zerostart_jupyter.snapshot.door import Door


@pytest.fixture
def first(monkeypatch: pytest.MonkeyPatch) -> None:
    """This process is number 1 to those at the door, and its kernel as well."""
    mine = (os.getpid(), os.geteuid())
    real = door._peer
    monkeypatch.setattr(
        door, "_peer", lambda end: (1, mine[1]) if real(end) == mine else (0, mine[1])
    )


@pytest.fixture
def opened() -> Iterator[Door]:
    made = Door()
    yield made
    made.close()


def test_a_kernel_tells_its_channel(first: None, opened: Door) -> None:
    heard = []
    serving = threading.Thread(target=lambda: heard.append(opened.serve(1)))
    serving.start()
    assert door.introduce(opened.name, {"to": 5, "from": 6})
    serving.join()
    assert heard == [{"kind": "channel", "to": 5, "from": 6}]


def test_a_kernel_is_given_the_outputs_of_process_1(first: None, opened: Door) -> None:
    serving = threading.Thread(target=opened.serve, args=(1,))
    serving.start()
    given = door.outputs(opened.name)
    serving.join()
    try:
        for name, number in (("stdin", 0), ("stdout", 1), ("stderr", 2)):
            assert os.path.sameopenfile(given[name], number)
            assert not os.get_inheritable(given[name])
    finally:
        for number in given.values():
            os.close(number)


def test_another_process_than_the_kernel_is_not_let_in(first: None, opened: Door) -> None:
    heard = []
    serving = threading.Thread(target=lambda: heard.append(opened.serve(2)))
    serving.start()
    assert not door.introduce(opened.name, {"to": 5, "from": 6})
    serving.join()
    assert heard == [None]


def test_another_process_than_number_1_is_told_nothing(opened: Door) -> None:
    assert not door.introduce(opened.name, {"to": 5, "from": 6})
    assert door.outputs(opened.name) == {}


def test_nobody_is_at_a_door_that_is_gone() -> None:
    assert not door.introduce("zerostart-of-yesterday", {"to": 5, "from": 6})
    assert door.outputs("zerostart-of-yesterday") == {}


def test_a_process_with_somebody_elses_door_has_no_shepherd_and_hands_it_to_nobody(
    monkeypatch: pytest.MonkeyPatch, opened: Door
) -> None:
    monkeypatch.setenv(door.VARIABLE, opened.name)
    before = len(os.listdir("/proc/self/fd"))
    assert revival.shepherd() is None
    assert door.VARIABLE not in os.environ
    assert len(os.listdir("/proc/self/fd")) == before
