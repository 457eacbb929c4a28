from __future__ import annotations

import gc
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load.gate import Gate
from zerostart_jupyter.load import load
from zerostart_jupyter.load.collector import paused


def test_the_last_to_pause_puts_it_back() -> None:
    assert gc.isenabled()
    with paused():
        with paused():
            assert not gc.isenabled()
        assert not gc.isenabled()
    assert gc.isenabled()


def test_one_that_was_off_stays_off() -> None:
    gc.disable()
    try:
        with paused():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()


def test_a_failed_load_puts_it_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "x.safetensors")
    gate = Gate(monkeypatch)
    gate.failure = ZeroDivisionError()
    gate.open()
    with pytest.raises(ZeroDivisionError):
        load(tmp_path / "x.safetensors", device="cpu")
    assert gc.isenabled()


def test_a_background_load_leaves_it_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "x.safetensors")
    gate = Gate(monkeypatch)
    weights = load(tmp_path / "x.safetensors", device="cpu", background=True)
    gate.wait_for_reader()
    assert gc.isenabled()
    gate.open()
    weights.wait()
