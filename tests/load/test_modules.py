from __future__ import annotations

import gc
import threading
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file, save_model
from torch import nn

from tests.load.files import descriptors
from tests.load.test_loader import same
from zerostart_jupyter.core.errors import WeightsMismatch
from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import load, load_into


class Rotary(nn.Module):
    """Frequencies that no checkpoint holds, as language models have them."""

    def __init__(self, dim: int, base: float = 10_000.0) -> None:
        super().__init__()
        self.dim, self.base = dim, base
        exponents = torch.arange(0, dim, 2).float() / dim
        self.register_buffer("frequencies", 1 / base**exponents, persistent=False)


class Model(nn.Module):
    """Tied embeddings, a norm with running statistics, a buffer in no file."""

    def __init__(self, width: int = 8, words: int = 11) -> None:
        super().__init__()
        self.embed = nn.Embedding(words, width)
        self.rotary = Rotary(width, base=500.0)
        self.norm = nn.BatchNorm1d(width)
        self.layers = nn.Sequential(nn.Linear(width, width), nn.GELU(), nn.Linear(width, width))
        self.head = nn.Linear(width, words, bias=False)
        self.head.weight = self.embed.weight

    def forward(self, words: torch.Tensor) -> torch.Tensor:
        hidden = self.embed(words) * torch.cos(self.rotary.frequencies).repeat(2)  # type: ignore[operator, arg-type]
        return self.head(self.layers(self.norm(hidden)))  # type: ignore[no-any-return]


WORDS = torch.tensor([1, 5, 9, 0])


@pytest.fixture
def original() -> Model:
    torch.manual_seed(3)
    model = Model()
    model.norm(torch.randn(20, 8))  # running statistics that are not the initial ones
    return model.eval()


@pytest.fixture
def path(original: Model, tmp_path: Path) -> Path:
    path = tmp_path / "model.safetensors"
    save_model(original, str(path))  # of the tied two, one is in the file
    return path


def on_meta() -> Model:
    with torch.device("meta"):
        return Model().eval()


def equal(one: nn.Module, other: nn.Module) -> bool:
    pairs = [dict(each.named_buffers()) | dict(each.named_parameters()) for each in (one, other)]
    return pairs[0].keys() == pairs[1].keys() and all(
        same(pairs[0][name], pairs[1][name]) for name in pairs[0]
    )


def test_a_meta_module_becomes_the_saved_one(original: Model, path: Path) -> None:
    model = on_meta()
    weights = load_into(model, path, device="cpu")
    assert equal(model, original)
    assert torch.equal(model(WORDS), original(WORDS))
    assert model.head.weight is model.embed.weight
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert model.layers[0].weight.data_ptr() == weights["layers.0.weight"].data_ptr(), "no copy"


def test_a_real_module_keeps_its_parameters(original: Model, path: Path) -> None:
    torch.manual_seed(4)
    model = Model().eval()
    before = dict(model.named_parameters())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    load_into(model, path)
    assert equal(model, original)
    assert {name: id(each) for name, each in model.named_parameters()} == {
        name: id(each) for name, each in before.items()
    }
    assert optimizer.param_groups[0]["params"][0] is model.embed.weight


def test_a_real_module_keeps_its_type_and_assign_takes_the_files(path: Path) -> None:
    model = Model().double()
    load_into(model, path)
    assert model.layers[0].weight.dtype is torch.float64
    load_into(model, path, assign=True)
    assert model.layers[0].weight.dtype is torch.float32


def test_a_dtype_is_converted_on_the_way(original: Model, path: Path) -> None:
    model = on_meta()
    load_into(model, path, device="cpu", dtype="bf16")
    assert model.layers[0].weight.dtype is torch.bfloat16
    assert same(model.layers[0].weight, original.layers[0].weight.bfloat16())
    assert model.norm.num_batches_tracked is not None
    assert model.norm.num_batches_tracked.dtype is torch.int64


def test_a_handle_that_was_loaded_before_is_taken_too(original: Model, path: Path) -> None:
    weights = load(path, device="cpu", background=True)
    model = on_meta()
    assert load_into(model, weights) is weights
    assert equal(model, original)


class TestMisfit:
    def rewritten(self, path: Path, change: Mapping[str, torch.Tensor | None]) -> Path:
        tensors = {name: tensor.clone() for name, tensor in load(path, device="cpu").items()}
        for name, tensor in change.items():
            if tensor is None:
                del tensors[name]
            else:
                tensors[name] = tensor
        other = path.with_name("other.safetensors")
        save_file(tensors, other)
        return other

    def test_names_that_do_not_match(self, path: Path) -> None:
        other = self.rewritten(path, {"layers.0.bias": None, "extra": torch.ones(1)})
        model = on_meta()
        with pytest.raises(
            WeightsMismatch,
            match=r"does not fit Model: missing: layers.0.bias; unexpected: extra.*strict=False",
        ):
            load_into(model, other)
        assert model.embed.weight.is_meta, "nothing was changed"
        with pytest.raises(RuntimeError, match=r"layers\.0\.bias"):
            Model().load_state_dict(dict(load(other, device="cpu")))

    def test_strict_can_be_turned_off(self, original: Model, path: Path) -> None:
        other = self.rewritten(path, {"layers.0.bias": None, "extra": torch.ones(1)})
        model = Model()
        bias = model.layers[0].bias.detach().clone()
        load_into(model, other, strict=False)
        assert same(model.layers[0].bias, bias)
        assert same(model.layers[0].weight, original.layers[0].weight)

    @pytest.mark.parametrize("strict", [True, False])
    def test_a_shape_that_differs_is_never_taken(self, path: Path, strict: bool) -> None:
        other = self.rewritten(path, {"layers.0.bias": torch.ones(9)})
        model = Model()
        before = model.layers[0].weight.detach().clone()
        with pytest.raises(
            WeightsMismatch, match=r"layers.0.bias \(9 in the file, 8 in the module\)"
        ):
            load_into(model, other, strict=strict)
        assert same(model.layers[0].weight, before)

    def test_many_names_are_counted(self, path: Path) -> None:
        with pytest.raises(WeightsMismatch, match=r"missing: .* and \d+ more; unexpected"):
            load_into(nn.Sequential(*(nn.Linear(2, 2) for _ in range(9))), path)

    def test_a_handle_that_was_given_is_not_cancelled(self, path: Path) -> None:
        weights = load(path, device="cpu", background=True)
        with pytest.raises(WeightsMismatch):
            load_into(nn.Linear(2, 2), weights)
        assert weights.wait(60).done

    def test_no_thread_and_no_file_stays_open(self, path: Path) -> None:
        before = descriptors()
        with pytest.raises(WeightsMismatch):
            load_into(nn.Linear(2, 2), path)
        for thread in threading.enumerate():
            if thread.name.startswith("zerostart-load"):
                thread.join(60)
        gc.collect()
        assert descriptors() == before


def test_a_modules_own_hook_may_rename(tmp_path: Path) -> None:
    class Renamed(nn.Linear):
        def __init__(self) -> None:
            super().__init__(2, 2)
            self.register_load_state_dict_pre_hook(self._rename)

        @staticmethod
        def _rename(module: nn.Module, state: dict[str, torch.Tensor], *_: object) -> None:
            state["weight"] = state.pop("kernel")

    save_file({"kernel": torch.eye(2), "bias": torch.ones(2)}, tmp_path / "x.safetensors")
    module = Renamed()
    load_into(module, tmp_path / "x.safetensors")
    assert torch.equal(module.weight, torch.eye(2))
    save_file({"kernel": torch.eye(3), "bias": torch.ones(2)}, tmp_path / "y.safetensors")
    with pytest.raises(WeightsMismatch, match="size mismatch for weight"):
        load_into(module, tmp_path / "y.safetensors")


def test_a_scalar_takes_a_vector_of_one_and_a_lazy_parameter_any_shape(tmp_path: Path) -> None:
    class Scalar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.scale = nn.Parameter(torch.tensor(0.0))
            self.lazy = nn.LazyLinear(3)

    tensors = OrderedDict(
        {"scale": torch.ones(1), "lazy.weight": torch.ones(3, 4), "lazy.bias": torch.ones(3)}
    )
    save_file(tensors, tmp_path / "x.safetensors")
    module = Scalar()
    load_into(module, tmp_path / "x.safetensors")
    assert module.scale.item() == 1
    assert module.lazy.weight.shape == (3, 4)


def test_parameters_are_known_to_the_register_without_the_handle(path: Path) -> None:
    model = on_meta()
    load_into(model, path, device="cpu")
    gc.collect()
    addresses = {live.address for live in references().live() if live.reference.path == path}
    assert {each.data_ptr() for each in model.parameters()} <= addresses
    with torch.no_grad():
        model.layers[0].weight.add_(1)
    noted = {live.name for live in references().live() if live.reference.path == path}
    assert "layers.0.weight" not in noted
    assert "layers.0.bias" in noted


def test_a_copied_parameter_of_another_layout_is_not_the_files_bytes(tmp_path: Path) -> None:
    convolution = nn.Conv2d(4, 3, 2)
    convolution.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    saved = {name: each.detach().contiguous() for name, each in convolution.named_parameters()}
    path = tmp_path / "conv.safetensors"
    save_file(saved, path)
    load_into(convolution, path)
    gc.collect()
    noted = {live.name for live in references().live() if live.reference.path == path}
    assert noted == {"bias"}


@pytest.mark.parametrize("device", ["meta", "cpu"])
def test_a_checkpoint_may_still_hold_a_buffer(original: Model, tmp_path: Path, device: str) -> None:
    held = torch.tensor([4.0, 3.0, 2.0, 1.0])
    older = {**original.state_dict(), "rotary.frequencies": held}
    del older["head.weight"]
    save_file(older, tmp_path / "older.safetensors")
    with torch.device(device):
        model = Model().eval()
    load_into(model, tmp_path / "older.safetensors")
    assert torch.equal(model.rotary.get_buffer("frequencies"), held)
    assert "rotary.frequencies" not in model.state_dict()


def test_a_buffer_of_another_shape_is_unexpected(original: Model, tmp_path: Path) -> None:
    older = {**original.state_dict(), "rotary.frequencies": torch.ones(3)}
    del older["head.weight"]
    save_file(older, tmp_path / "older.safetensors")
    with pytest.raises(WeightsMismatch, match=r"unexpected: rotary\.frequencies"):
        load_into(Model(), tmp_path / "older.safetensors")
