"""Weights leave memory and come back under the same tensors, exact, or by name not at all."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from zerostart_jupyter.core.errors import CheckpointChanged, LoadError
from zerostart_jupyter.core.references import FileIdentity, Reference, references
from zerostart_jupyter.load import held, tensors, weights

assert weights.held is held  # who notes tensors has said how they are held

Weights = dict[str, torch.Tensor]


def put(folder: Path, weights: Weights) -> dict[str, Reference]:
    """Write a checkpoint; where each tensor is in it."""
    from zerostart_jupyter.load.checkpoint import open_checkpoint

    path = folder / "model.safetensors"
    save_file(weights, path)
    with open_checkpoint(path) as checkpoint:
        return {
            name: tensors.reference(entry, checkpoint.shards[entry.shard])
            for name, entry in checkpoint.entries.items()
        }


@pytest.fixture
def places(tmp_path: Path) -> dict[str, Reference]:
    generator = torch.Generator().manual_seed(3)
    return put(tmp_path, {"a": torch.randn(64, 33, generator=generator), "b": torch.arange(9)})


@pytest.fixture
def copies(places: dict[str, Reference], tmp_path: Path) -> Weights:
    """Copies in torch's own memory, as a GPU's are, noted as a load notes them."""
    from safetensors.torch import load_file

    made = {
        name: tensor.clone() for name, tensor in load_file(tmp_path / "model.safetensors").items()
    }
    for name, tensor in made.items():
        tensors.remember(name, tensor, places[name])
    return made


def hold(weights: Weights) -> held.HeldWeights | None:
    known = {id(tensor) for tensor in weights.values()}
    found = references().hold(lambda live: id(live.owner) in known)
    assert found is None or isinstance(found, held.HeldWeights)
    return found


def test_the_same_objects_hold_the_same_values_again(copies: Weights) -> None:
    expected = {name: tensor.clone() for name, tensor in copies.items()}
    view, tied = copies["a"][3:5].t(), torch.nn.Parameter(copies["a"])
    versions = {name: tensor._version for name, tensor in copies.items()}
    found = hold(copies)
    assert found is not None
    assert found.bytes == sum(tensor.nbytes for tensor in copies.values())
    found.let_go()
    assert all(tensor.untyped_storage().nbytes() == 0 for tensor in copies.values())

    found.take_back()

    for name, tensor in copies.items():
        assert torch.equal(tensor, expected[name])
        assert tensor._version == versions[name]
    assert torch.equal(view, expected["a"][3:5].t())
    assert tied.data_ptr() == copies["a"].data_ptr()
    tied.data[3, 0] = 7
    assert view[0, 0] == 7
    found.take_back()  # nothing is gone, nothing is done
    assert view[0, 0] == 7


def test_they_are_known_to_the_register_afterwards(copies: Weights) -> None:
    for _ in range(3):
        found = hold(copies)
        assert found is not None
        assert len(found._parts) == 2
        found.let_go()
        found.take_back()


def test_what_was_written_to_stays(copies: Weights) -> None:
    copies["b"][0] = 100
    found = hold(copies)
    assert found is not None
    found.let_go()
    assert copies["b"][0] == 100
    assert copies["a"].untyped_storage().nbytes() == 0
    found.take_back()


def test_what_was_written_to_behind_the_counter_stays(copies: Weights) -> None:
    before = copies["b"]._version
    copies["b"].data.add_(1)
    assert copies["b"]._version == before
    found = hold(copies)
    assert found is not None
    assert ("b", "it is not what its file holds") in found.kept
    found.let_go()
    found.take_back()
    assert copies["b"][0] == 1


def test_mapped_views_are_not_torchs_to_give(tmp_path: Path, places: dict[str, Reference]) -> None:
    from zerostart_jupyter.load import load

    weights = load(tmp_path / "model.safetensors", device="cpu", reader="mmap")
    known = {id(weights[name]) for name in weights}
    assert references().hold(lambda live: id(live.owner) in known) is None


def test_a_tensor_that_shares_its_memory_with_more_stays(
    places: dict[str, Reference], copies: Weights
) -> None:
    larger = torch.zeros(100, dtype=torch.int64)
    part = larger[:9].copy_(copies["b"])
    tensors.remember("part", part, places["b"])
    assert hold({"part": part}) is None


@pytest.mark.parametrize("how", ["replaced", "written to", "cut", "gone"])
def test_a_file_that_changed_is_named_and_nothing_wrong_comes_back(
    copies: Weights, places: dict[str, Reference], how: str
) -> None:
    path = places["a"].path
    found = hold(copies)
    assert found is not None
    found.let_go()
    if how == "replaced":
        other = path.with_suffix(".new")
        other.write_bytes(bytes(path.stat().st_size))
        other.replace(path)
    elif how == "written to":
        with path.open("r+b") as file:
            file.seek(places["a"].offset + 5)
            file.write(b"other")
        os.utime(path, ns=(0, places["a"].identity.mtime + 1))
    elif how == "cut":
        os.truncate(path, places["a"].offset + 10)
    else:
        path.unlink()
    with pytest.raises(CheckpointChanged, match=path.name):
        found.take_back()
    assert all(tensor.untyped_storage().nbytes() == 0 for tensor in copies.values())


def test_a_digest_finds_what_times_hide(copies: Weights, places: dict[str, Reference]) -> None:
    path, identity = places["a"].path, places["a"].identity
    found = hold(copies)
    assert found is not None
    found.let_go()
    with path.open("r+b") as file:
        file.seek(places["a"].offset + 5)
        file.write(b"other")
    os.utime(path, ns=(identity.mtime, identity.mtime))
    assert FileIdentity.of(path) == identity
    with pytest.raises(CheckpointChanged):
        found.take_back()
    assert copies["a"].untyped_storage().nbytes() == 0
    assert copies["b"].tolist() == list(range(9))


def test_one_that_failed_can_be_taken_back_later(
    copies: Weights, places: dict[str, Reference]
) -> None:
    path = places["a"].path
    expected = copies["a"].clone()
    found = hold(copies)
    assert found is not None
    found.let_go()
    path.rename(path.with_suffix(".away"))
    with pytest.raises(LoadError):
        found.take_back()
    path.with_suffix(".away").rename(path)
    found.take_back()
    assert torch.equal(copies["a"], expected)


@settings(max_examples=30, deadline=None)
@given(length=st.integers(1, 300), block=st.integers(1, 64))
def test_any_length_in_any_blocks(
    tmp_path_factory: pytest.TempPathFactory, length: int, block: int
) -> None:
    made = torch.arange(length, dtype=torch.uint8)
    place = put(tmp_path_factory.mktemp("any"), {"x": made})["x"]
    copy = made.clone()
    tensors.remember("x", copy, place)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(held, "BLOCK", block)
        found = hold({"x": copy})
        assert found is not None
        found.let_go()
        found.take_back()
    assert torch.equal(copy, made)


def test_a_captured_graph_keeps_all_of_them(
    copies: Weights, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Graph:
        """In the place of torch.cuda.CUDAGraph, which needs a GPU to be made."""

    monkeypatch.setattr("torch.cuda.graphs.CUDAGraph", Graph)
    assert hold(copies) is not None
    captured = Graph()
    assert hold(copies) is None
    del captured
    assert hold(copies) is not None
