"""What loading to a device promises, whichever it is. Needs pytest, torch and safetensors alone."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from tests.load.files import every_dtype, save_sharded
from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import load, load_into


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal bit for bit, wherever the two are."""
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = [each.detach().cpu().contiguous().reshape(-1) for each in (one, other)]
    return torch.equal(*(each.view(torch.uint8) for each in bits))


def reference(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(load_file(path))
    return found


class Storey(nn.Linear):
    """A layer of more than a block, with a buffer that no checkpoint holds."""

    scale: torch.Tensor

    def __init__(self) -> None:
        super().__init__(1100, 1100)
        self.register_buffer("scale", torch.arange(1100) / 1100, persistent=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return super().forward(hidden).relu() * self.scale


class Tower(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(Storey() for _ in range(4))

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        for layer in self.layers:
            hidden = layer(hidden)
        return hidden


class OnDevice:
    """`device` is a torch device."""

    device: ClassVar[str]

    @pytest.fixture(params=["auto", "mmap", "direct"])
    def reader(self, request: pytest.FixtureRequest) -> str:
        return str(request.param)

    @pytest.fixture
    def sharded(self, tmp_path: Path) -> Path:
        """Every type, a tensor larger than a block, and one that lies on no border of its type."""
        big = torch.randn(2000, 4096, generator=torch.Generator().manual_seed(5))
        parts = [
            {"big.0": big, "small": big[:3, :5].clone()},
            every_dtype(),
            {"big.1": big.bfloat16()},
        ]
        save_sharded(tmp_path / "tiny", parts)
        return tmp_path / "tiny"

    @pytest.fixture
    def tower(self, tmp_path: Path) -> Path:
        torch.manual_seed(4)
        save_file(Tower().state_dict(), tmp_path / "tower.safetensors")
        return tmp_path / "tower.safetensors"

    @pytest.mark.parametrize("background", [False, True])
    def test_bit_for_bit(self, sharded: Path, reader: str, background: bool) -> None:
        weights = load(sharded, device=self.device, reader=reader, background=background).wait()
        expected = reference(sharded)
        assert set(weights) == set(expected)
        for name, tensor in expected.items():
            assert weights[name].device == torch.device(self.device)
            assert same(weights[name], tensor), name

    def test_converted_on_the_way(self, sharded: Path, reader: str) -> None:
        weights = load(sharded, device=self.device, reader=reader, dtype="bf16")
        big = reference(sharded)["big.0"].bfloat16()
        assert weights["big.0"].device == torch.device(self.device)
        assert same(weights["big.0"], big)

    def test_a_part_of_a_tensor(self, sharded: Path, reader: str) -> None:
        columns = (slice(None), slice(1000, 3001))
        weights = load(sharded, device=self.device, reader=reader, slices={"big.0": columns})
        assert same(weights["big.0"], reference(sharded)["big.0"][columns])

    @pytest.mark.parametrize("layered", [False, True])
    def test_a_module_that_runs(self, tower: Path, reader: str, layered: bool) -> None:
        expected = Tower().to(self.device)
        expected.load_state_dict(load_file(tower, device=self.device))
        with torch.device("meta"):
            module = Tower().eval()
        load_into(module, tower, device=self.device, reader=reader, layered=layered)
        words = torch.ones(2, 1100, device=self.device)
        with torch.no_grad():
            assert same(module(words), expected(words))

    def test_some_here_and_some_on_the_cpu(self, tower: Path, reader: str) -> None:
        with torch.device("meta"):
            module = Tower()
        places = {"": "cpu", "layers.1": self.device, "layers.3": self.device}
        load_into(module, tower, device_map=places, reader=reader)
        expected = load_file(tower)
        for number, layer in enumerate(module.layers):
            place = self.device if number in (1, 3) else "cpu"
            assert layer.weight.device == layer.scale.device == torch.device(place)
            assert same(layer.weight, expected[f"layers.{number}.weight"])
            assert same(layer.scale, Storey().scale)

    def test_is_known_to_the_register(self, sharded: Path, reader: str) -> None:
        weights = load(sharded, device=self.device, reader=reader)
        living = {
            live.name: live for live in references().live() if live.reference.path in weights.files
        }
        assert living["big.0"].device == self.device
        assert living["big.0"].address == weights["big.0"].data_ptr()

    def test_says_how_the_bytes_came(self, sharded: Path, reader: str) -> None:
        weights = load(sharded, device=self.device, reader=reader)
        counted = weights.statistics["bytes"]
        assert isinstance(counted, int)
        assert counted >= weights.bytes
        assert weights.statistics["why"]
        if weights.reader == "cufile":
            assert weights.statistics["gds"] in ("yes", "no", "unknown")
            through = (weights.statistics["cufile_bytes"], weights.statistics["posix_bytes"])
            assert sum(map(int, through)) == counted
