from __future__ import annotations

import threading
from collections import defaultdict

import pytest

from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import retries
from zerostart_jupyter.install.retries import TRIES, Refused, persist


class _Noting(threading.Event):
    """Waits for nothing, and knows for how long it was to wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        assert timeout is not None
        self.waited.append(timeout)
        return False


def pauses(asked: float | None = None) -> list[float]:
    """The seconds before each try of work that never succeeds."""
    stop = _Noting()

    def attempt() -> None:
        raise Refused("https://index.test/x", 503, asked)

    with pytest.raises(NetworkError, match="503"):
        persist(
            attempt, lambda: 0, stop, lambda _: False, lambda why: NetworkError(str(why), remedy="")
        )
    return stop.waited


def test_pauses_grow_and_are_never_those_of_everybody_else() -> None:
    drawn: dict[int, list[float]] = defaultdict(list)
    for _ in range(400):
        for number, pause in enumerate(pauses()):
            drawn[number].append(pause)
    assert len(drawn) == TRIES - 1
    for number, found in drawn.items():
        longest = min(10.0, 0.2 * 2**number)
        assert longest / 2 <= min(found) <= max(found) <= longest
        # spread over the range: of 400 draws some are in each quarter of it
        quarters = {int(8 * (each - longest / 2) / longest) for each in found}
        assert quarters >= {0, 1, 2, 3}
        assert len(set(found)) > 390
    means = [sum(found) / len(found) for found in drawn.values()]
    assert means == sorted(means)


def test_pauses_end_growing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "TRIES", 40)
    assert all(5.0 <= each <= 10.0 for each in pauses()[7:])


@pytest.mark.parametrize(("asked", "least", "most"), [(3.0, 3.0, 3.2), (1e9, 120.0, 120.0)])
def test_what_a_server_asks_for_is_the_least(asked: float, least: float, most: float) -> None:
    assert all(least <= each <= most for each in pauses(asked))


def test_a_byte_more_begins_the_pauses_anew() -> None:
    stop = _Noting()
    progress = 0

    def attempt() -> int:
        nonlocal progress
        if len(stop.waited) == 20:
            return progress
        progress += len(stop.waited) % 3 == 0
        raise Refused("https://index.test/x", 503)

    found = persist(
        attempt, lambda: progress, stop, lambda _: False, lambda _: NetworkError("", remedy="")
    )
    assert found == 7
    assert all(pause <= 0.2 * 2**2 for pause in stop.waited)
