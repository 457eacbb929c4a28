"""Clocks that jump: ages are guesses, and a wrong one costs at most a second look."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make
from tests.servers.index import Index
from zerostart_jupyter.core.store import MARKER, Store
from zerostart_jupyter.install import installation
from zerostart_jupyter.install.inventory import prune

YEAR = 365 * 86400.0
JUMPS = pytest.mark.parametrize("jump", [-30 * YEAR, -3600.0, 3600.0, 30 * YEAR])


def shift(monkeypatch: pytest.MonkeyPatch, seconds: float) -> None:
    real = time.time
    monkeypatch.setattr(time, "time", lambda: real() + seconds)


def created(store: Store, seconds: float) -> None:
    """Have everything in the store say that it is so much younger."""
    for room in ("environments", "wheels", "locked"):
        for entry in store.entries(room):
            body = json.loads((entry.path / MARKER).read_text())
            body["created"] += seconds
            (entry.path / MARKER).write_text(json.dumps(body))


@JUMPS
def test_what_is_there_is_used_whatever_the_clock_says(
    jump: float, bring: Bring, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-clock"))
    first = bring("zs-clock")
    shift(monkeypatch, jump)
    second = bring("zs-clock")
    assert second.warm
    assert second.environment == first.environment


def test_an_answer_from_the_future_is_asked_for_again(
    bring: Bring, index: Index, store: Store
) -> None:
    publish(index, make("zs-later", "1.0"))
    bring("zs-later")
    created(store, YEAR)
    publish(index, make("zs-later", "2.0"))
    assert bring("zs-later").distributions == [("zs-later", "2.0")]


@JUMPS
def test_what_is_in_use_is_kept_whatever_the_clock_says(
    jump: float, bring: Bring, index: Index, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-used"))
    found = bring("zs-used")
    with store.publish("wheels", "a-wheel-on-its-way", {}) as staging:
        shift(monkeypatch, jump)
        store.sweep()
        prune(store, days=0)
        assert staging.exists()
    assert (found.site_packages / "zs_used.py").exists()


def test_what_is_from_the_future_can_be_pruned(bring: Bring, index: Index, store: Store) -> None:
    publish(index, make("zs-young"))
    found = bring("zs-young")
    installation._leases.pop(str(found.environment)).close()
    created(store, YEAR)
    future = time.time() + YEAR
    os.utime(found.environment / ".zerostart" / "used", (future, future))
    prune(store, days=1)
    assert found.environment.exists()  # as if it were used just now
    prune(store, days=0)
    assert not found.environment.exists()
    assert store.entries("wheels") == store.entries("locked") == []


@pytest.mark.parametrize(("age", "kept"), [(-3600.0, True), (-YEAR, False), (YEAR, False)])
def test_half_a_download_is_not_kept_for_ever(
    age: float, kept: bool, store: Store, tmp_path: Path
) -> None:
    half = store.path("partial", "0123")
    half.mkdir()
    moment = time.time() - age
    os.utime(half, (moment, moment))
    store.sweep()
    assert half.exists() == kept
