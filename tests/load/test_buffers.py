from __future__ import annotations

from types import SimpleNamespace

import pytest
import torch
from torch import nn

from tests.load.test_modules import Model, Rotary
from zerostart_jupyter.core.errors import WeightsMismatch
from zerostart_jupyter.load.buffers import fill, rebuilt


def rebuild(module: nn.Module, device: str) -> None:
    fill(module, rebuilt(module, lambda name: device), lambda name: device)


class Positions(nn.Module):
    """Parameters beside a buffer that is not saved, made from a config: BERT's embeddings."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.words = nn.Embedding(config.words, 4)
        self.register_buffer("ids", torch.arange(config.words), persistent=False)
        nn.init.orthogonal_(self.words.weight)


class Bert(nn.Module):
    """Keeps the config that its parts were made from."""

    def __init__(self, config: SimpleNamespace) -> None:
        super().__init__()
        self.config = config
        self.inner = nn.Sequential(Positions(config))


class Secretive(nn.Module):
    def __init__(self, secret: int) -> None:
        super().__init__()
        self.register_buffer("mask", torch.full((3,), secret), persistent=False)


class Fickle(nn.Module):
    """Cannot be made a second time."""

    made = 0

    def __init__(self) -> None:
        super().__init__()
        type(self).made += 1
        if type(self).made > 1:
            raise RuntimeError("only once")
        self.register_buffer("mask", torch.ones(3), persistent=False)


def test_values_come_from_the_constructors_own_arguments() -> None:
    with torch.device("meta"):
        model = Model(width=6)
    rebuild(model, "cpu")
    assert torch.equal(model.rotary.get_buffer("frequencies"), Rotary(6, 500.0).frequencies)
    assert model.embed.weight.is_meta, "parameters are the checkpoint's business"


def test_parameters_of_the_second_instance_cost_no_random_numbers() -> None:
    with torch.device("meta"):
        module = Bert(SimpleNamespace(words=50))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    rebuild(module, "cpu")
    assert torch.equal(torch.rand(3), expected)
    assert module.get_buffer("inner.0.ids").tolist() == list(range(50))


def test_a_changed_type_is_kept() -> None:
    with torch.device("meta"):
        model = Rotary(4).to(torch.bfloat16)
    rebuild(model, "cpu")
    assert model.get_buffer("frequencies").dtype is torch.bfloat16


@pytest.mark.parametrize("kind", [Secretive, Fickle])
def test_what_cannot_be_known_is_refused_by_name(kind: type[nn.Module]) -> None:
    with torch.device("meta"):
        module = nn.ModuleDict({"inner": kind() if kind is Fickle else kind(7)})
    with pytest.raises(WeightsMismatch, match=rf"buffer inner.mask of {kind.__name__}.*CPU"):
        rebuild(module, "cpu")


def test_a_real_modules_buffers_are_left_alone() -> None:
    module = Rotary(4)
    module.frequencies = torch.ones(2)
    rebuild(module, "cpu")
    assert torch.equal(module.get_buffer("frequencies"), torch.ones(2))


def test_each_goes_where_its_name_says_and_what_stays_on_meta_is_left_alone() -> None:
    with torch.device("meta"):
        model = nn.ModuleList([Rotary(4), Rotary(6), Secretive(7)])
    asked: list[str] = []

    def place(name: str) -> str:
        asked.append(name)
        return "cpu" if name.startswith("1.") else "meta"

    found = rebuilt(model, place)
    fill(model, found, place)
    assert set(found) == {"1.frequencies"}
    assert set(asked) == {"0.frequencies", "1.frequencies", "2.mask"}
    assert [buffer.is_meta for buffer in model.buffers()] == [True, False, True]
