"""Weights that lie in a file already: left there, read back from it, or refused with its name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.snapshot.portable.shells import restored, save, shell
from zerostart_jupyter import load
from zerostart_jupyter.core.errors import SnapshotRefused

TENSORS = {"a": torch.arange(100_000.0), "b": torch.ones(300, 300)}


@pytest.fixture
def weights(tmp_path: Path) -> Any:
    save_file(TENSORS, tmp_path / "model.safetensors")
    found = load.load(tmp_path / "model.safetensors", device="cpu")
    found.wait()
    return found


def saved_bytes(directory: Path) -> int:
    return (directory / "portable/tensors.safetensors").stat().st_size


def test_they_stay_in_their_file(weights: Any, tmp_path: Path) -> None:
    save(shell(a=weights["a"], b=weights["b"], own=torch.ones(10)), tmp_path / "one")
    assert saved_bytes(tmp_path / "one") < 100_000
    names = restored(tmp_path / "one").user_ns
    assert torch.equal(names["a"], TENSORS["a"])
    assert torch.equal(names["b"], TENSORS["b"])
    assert names["own"].sum() == 10


def test_what_was_written_to_is_saved(weights: Any, tmp_path: Path) -> None:
    a = weights["a"]
    a[5] = -1
    save(shell(a=a), tmp_path / "one")
    assert saved_bytes(tmp_path / "one") > 400_000
    assert restored(tmp_path / "one").user_ns["a"][5] == -1


def test_so_is_what_was_written_to_past_torch(weights: Any, tmp_path: Path) -> None:
    a = weights["a"]
    a.numpy()[5] = -1
    save(shell(a=a), tmp_path / "one")
    assert restored(tmp_path / "one").user_ns["a"][5] == -1


@pytest.mark.parametrize("change", ["other", "shorter", "gone"])
def test_a_file_that_changed_is_named(weights: Any, tmp_path: Path, change: str) -> None:
    save(shell(a=weights["a"]), tmp_path / "one")
    file = tmp_path / "model.safetensors"
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    data[-1000] ^= 1
    file.unlink()
    if change != "gone":
        file.write_bytes(data if change == "other" else data[: len(data) // 4])
    with pytest.raises(SnapshotRefused, match=r"model\.safetensors, which (has changed|is gone)"):
        restored(tmp_path / "one")
