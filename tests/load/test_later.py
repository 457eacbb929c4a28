"""Tensors of a mapping are made by who asks for them, or while the disk is at work."""

from __future__ import annotations

import gc
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load.gate import Gate
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import Weights, load, loader
from zerostart_jupyter.load.later import Later

NAMES = [f"row.{number}" for number in range(4)]
ONE_THREAD = Settings(load_threads=1)


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    path = tmp_path / "rows.safetensors"
    save_file({name: torch.full((1 << 20,), number) for number, name in enumerate(NAMES)}, path)
    return path


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Gate]:
    monkeypatch.setattr(loader, "POPULATE", 8 << 20)
    gate = Gate(monkeypatch)
    yield gate
    gate.open()


@pytest.fixture
def uncollected() -> Iterator[None]:
    """Memory comes back when the last tensor goes, not when the collector runs."""
    gc.disable()
    yield
    gc.enable()


def known(path: Path) -> list[str]:
    return sorted(live.name for live in references().live() if live.reference.path == path)


def mapped(path: Path) -> bool:
    return str(path) in Path("/proc/self/maps").read_text()


def let_go_of_the_load() -> None:
    for thread in threading.enumerate():
        if thread.name.startswith("zerostart-"):
            thread.join(PATIENCE)


def test_a_background_load_makes_a_tensor_when_it_is_asked_for(rows: Path) -> None:
    weights = load(rows, device="cpu", background=True).wait()
    assert known(rows) == []
    row = weights["row.2"]
    assert torch.equal(row, torch.full((1 << 20,), 2))
    assert known(rows) == ["row.2"]
    assert weights["row.2"] is row


def test_those_who_ask_at_once_get_one_tensor(rows: Path) -> None:
    weights = load(rows, device="cpu", background=True).wait()
    start = threading.Barrier(8)

    def ask(_: int) -> torch.Tensor:
        start.wait(PATIENCE)
        return weights["row.1"]

    with ThreadPoolExecutor(8) as threads:
        found = list(threads.map(ask, range(8)))
    assert all(each is found[0] for each in found)
    assert known(rows) == ["row.1"]


def test_a_load_that_is_waited_for_makes_them_before_a_byte_has_come(
    rows: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare, prepared = Later.prepare, threading.Event()

    def noted(later: Later, stopped: Callable[[], bool]) -> None:
        prepare(later, stopped)
        prepared.set()

    monkeypatch.setattr(Later, "prepare", noted)
    with ThreadPoolExecutor(1) as thread:
        loading = thread.submit(load, rows, device="cpu")
        assert prepared.wait(PATIENCE)
        assert (gate.order, known(rows)) == ([], NAMES)
        gate.open()
        weights = loading.result(PATIENCE)
    assert all(torch.equal(weights[name], torch.full((1 << 20,), int(name[-1]))) for name in NAMES)


def test_what_came_before_a_cancel_can_still_be_asked_for(rows: Path, gate: Gate) -> None:
    weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
    gate.wait_for_reader()
    gate.open(2)  # of 8 MiB: row.0 begins behind the header and ends in the second
    gate.wait_for_reader()
    gate.wait_for_reader()
    weights.cancel()
    gate.open()
    with pytest.raises(Cancelled):
        weights.wait(PATIENCE)
    assert torch.equal(weights["row.0"], torch.full((1 << 20,), 0))
    with pytest.raises(Cancelled):
        weights["row.3"]


@pytest.mark.usefixtures("uncollected")
@pytest.mark.parametrize("asked", [0, 2, len(NAMES)])
def test_the_mapping_goes_with_the_handle_and_the_last_tensor(rows: Path, asked: int) -> None:
    weights: Weights | None = load(rows, device="cpu", background=True).wait()
    assert weights is not None
    kept = [weights[name] for name in NAMES[:asked]]
    let_go_of_the_load()
    weights = None
    assert mapped(rows) == bool(kept)
    kept.clear()
    assert not mapped(rows)


@pytest.mark.usefixtures("uncollected")
def test_a_handle_of_which_all_was_asked_for_keeps_no_mapping_of_its_own(rows: Path) -> None:
    weights = load(rows, device="cpu", background=True).wait()
    kept = dict(weights)
    let_go_of_the_load()
    assert mapped(rows)
    later = weights._later
    assert later is not None
    with pytest.raises(IndexError):
        later._reader.storage(later._entries["row.0"])
    assert kept
