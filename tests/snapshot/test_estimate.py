from __future__ import annotations

import os
from pathlib import Path

import pytest

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import estimate
from zerostart_jupyter.snapshot.estimate import Measured

SMALL = {"read_bytes": 1 << 20}
LARGE = {"read_bytes": 10 << 30}


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def test_more_bytes_and_more_modules_take_longer(store: Store) -> None:
    measured = Measured(store)
    for tier in ("process", "portable"):
        assert 0 < measured.seconds(tier, SMALL) < 2 < measured.seconds(tier, LARGE)
    assert measured.seconds("portable", SMALL | {"modules": 5000}) > 3


def test_what_goes_on_to_a_gpu_takes_its_time(store: Store) -> None:
    guess = Measured(store).guess
    with_gpu = guess("process", SMALL | {"gpu_bytes": 80 << 30})
    assert with_gpu - guess("process", SMALL) == pytest.approx(8.6, rel=0.01)


def test_no_more_of_a_file_is_read_than_it_has_data(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "sparse"
    file.write_bytes(bytes(1 << 19))
    os.truncate(file, 1 << 40)
    estimate.learn_disk(store, file, 1 << 19)
    assert store.get("probes", "snapshot-disk-rate") is None


def test_a_restore_that_happened_corrects_the_next_guess(store: Store) -> None:
    guess = Measured(store).seconds("process", SMALL)
    for _ in range(8):
        estimate.remember(store, "process", SMALL, 3 * guess)
    learnt = Measured(store)
    assert learnt.seconds("process", SMALL) == pytest.approx(3 * guess, rel=0.05)
    assert learnt.seconds("portable", SMALL) == Measured(store).guess("portable", SMALL)


def test_one_that_stood_still_for_an_hour_teaches_nothing(store: Store) -> None:
    before = Measured(store).seconds("process", SMALL)
    estimate.remember(store, "process", SMALL, 3600.0)
    assert Measured(store).seconds("process", SMALL) == before


def test_the_disk_is_measured_once(store: Store, tmp_path: Path) -> None:
    file = tmp_path / "images"
    file.write_bytes(bytes(4 << 20))
    estimate.learn_disk(store, file)
    entry = store.get("probes", "snapshot-disk-rate")
    if entry is None:  # a file system without O_DIRECT: the usual speed it is
        assert Measured(store).guess("process", LARGE) == pytest.approx(10.9, rel=0.1)
        return
    rate = entry.about["rate"]
    assert Measured(store).guess("process", LARGE) == pytest.approx(0.3 + (10 << 30) / rate)
    estimate.learn_disk(store, file)
    again = store.get("probes", "snapshot-disk-rate")
    assert again is not None
    assert again.created == entry.created


def test_a_file_too_small_to_tell_teaches_nothing(store: Store, tmp_path: Path) -> None:
    (tmp_path / "small").write_bytes(b"x")
    estimate.learn_disk(store, tmp_path / "small")
    estimate.learn_disk(store, tmp_path / "none")
    assert store.get("probes", "snapshot-disk-rate") is None


@pytest.mark.parametrize("rate", [0, -1, "fast", None, float("nan"), float("inf")])
def test_a_note_that_makes_no_sense_is_no_note(store: Store, rate: object) -> None:
    with store.publish("probes", "snapshot-disk-rate", {"rate": rate}):
        pass
    assert Measured(store).guess("process", SMALL) == pytest.approx(0.3 + (1 << 20) / 1e9)
