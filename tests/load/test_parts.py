"""Less than all of a checkpoint, or all of it to several places."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file, save_model
from torch import nn

from tests.contracts.reader import ReaderContract
from tests.load.test_loader import READERS, same
from tests.load.test_modules import WORDS, Model
from zerostart_jupyter.core.errors import LoadError, WeightsMismatch
from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import load, load_into
from zerostart_jupyter.load.checkpoint import Shard
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.direct import DirectReader
from zerostart_jupyter.load.readers.mapped import MmapReader
from zerostart_jupyter.load.readers.spread import SpreadReader
from zerostart_jupyter.load.readers.staging import HostStage
from zerostart_jupyter.load.tensors import allocate

ROOT = Path(__file__).parents[2]


class TestSlices:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        big = torch.arange(3 << 20, dtype=torch.float32).reshape(1024, 3072)
        save_file({"big": big, "other": torch.ones(5)}, tmp_path / "x.safetensors")
        return tmp_path / "x.safetensors"

    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize(
        "index",
        [
            slice(256, 512),
            (slice(None), slice(1000, 1500)),
            (slice(1, 3), slice(0, 1)),
            (..., slice(-2, None)),
            slice(5, 5),
            slice(None),
        ],
        ids=str,
    )
    def test_what_the_index_means(self, path: Path, reader: str, index: Any) -> None:
        expected = load_file(path)["big"][index]
        weights = load(path, device="cpu", reader=reader, slices={"big": index})
        assert same(weights["big"], expected)
        assert weights["big"].is_contiguous()
        assert weights.shapes["big"] == expected.shape
        assert torch.equal(weights["other"], torch.ones(5))

    def test_rows_are_read_without_the_rest(self, path: Path) -> None:
        weights = load(path, device="cpu", slices={"big": slice(512, 768)})
        assert weights.bytes == (256 * 3072 * 4) + 20
        assert int(weights.statistics["bytes"]) < 2 * weights.bytes
        (noted,) = [live for live in references().live() if live.owner is weights["big"]]
        with path.open("rb") as file:
            file.seek(noted.reference.offset)
            content = file.read(noted.reference.length)
        assert content == weights["big"].numpy().tobytes()

    def test_columns_are_not_a_run_of_the_file(self, path: Path) -> None:
        weights = load(path, device="cpu", slices={"big": (slice(None), slice(0, 10))})
        assert not [live for live in references().live() if live.owner is weights["big"]]
        assert weights["big"].untyped_storage().nbytes() == 1024 * 10 * 4, "the rest is let go of"

    @pytest.mark.parametrize("index", [3, slice(0, 4, 2), (slice(None),) * 3])
    def test_what_is_no_part_is_refused(self, path: Path, index: Any) -> None:
        with pytest.raises(LoadError, match=r"is no part of 'big'.*slice without a step"):
            load(path, device="cpu", slices={"big": index})


class TestDeviceMap:
    @pytest.fixture
    def path(self, tmp_path: Path) -> Path:
        torch.manual_seed(3)
        save_model(Model().eval(), str(tmp_path / "x.safetensors"))
        return tmp_path / "x.safetensors"

    def on_meta(self) -> Model:
        with torch.device("meta"):
            return Model().eval()

    def test_what_is_mapped_to_meta_is_neither_read_nor_changed(self, path: Path) -> None:
        model = self.on_meta()
        weights = load_into(
            model, path, device_map={"": "cpu", "layers": "meta", "layers.2": "cpu"}
        )
        assert model.layers[0].weight.is_meta
        assert model.layers[2].weight.device.type == "cpu"
        assert model.embed.weight.device.type == "cpu"
        assert "layers.0.weight" not in weights
        load_into(model, path, device="cpu", strict=True)
        assert model(WORDS).shape == (4, 11)

    def test_what_is_missing_elsewhere_is_still_told(self, path: Path) -> None:
        tensors = {name: each.clone() for name, each in load_file(path).items()}
        del tensors["layers.2.bias"], tensors["layers.0.bias"]
        save_file(tensors, path)
        with pytest.raises(WeightsMismatch, match=r"missing: layers\.2\.bias\."):
            load_into(self.on_meta(), path, device_map={"": "cpu", "layers.0": "meta"})

    def test_an_unknown_device(self, path: Path) -> None:
        with pytest.raises(LoadError, match="no device 'tpu'"):
            load_into(self.on_meta(), path, device_map={"layers": "tpu"})

    def test_weights_that_are_somewhere_cannot_be_mapped(self, path: Path) -> None:
        weights = load(path, device="cpu")
        with pytest.raises(LoadError, match=r"is on cpu already.*path or the hub id"):
            load_into(self.on_meta(), weights, device_map={"": "cpu"})


def alternating(name: str) -> str:
    """Every second tensor goes to the second device: no two neighbours to the same."""
    return "one" if name[-1] in "ace" else "two"


class TestSpread(ReaderContract):
    """Two readers that stand for two devices."""

    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        return SpreadReader(
            shards,
            {
                "one": MmapReader(shards),
                "two": DirectReader(
                    shards,
                    stage=lambda: HostStage(block),
                    stages=stages,
                    allocate=lambda count: allocate(count, "cpu"),
                ),
            },
            alternating,
        )

    @pytest.fixture
    def plan(self, checkpoint: Any) -> Any:
        from tests.contracts.reader import BLOCK
        from zerostart_jupyter.load.plan import Plan

        return Plan(checkpoint.entries.values(), block=BLOCK, apart=alternating)

    def test_says_what_each_did(self, reader: Reader, plan: Any) -> None:
        for block in plan.blocks:
            reader.read(block)
        counted = reader.statistics()
        assert reader.name == "direct and mmap"
        assert counted["bytes"] == int(counted["one bytes"]) + int(counted["two bytes"])
        assert counted["one how"] == "populate"
        reader.stop()
        reader.finish()


_RANK = """
import json, os, sys
import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import Shard, distribute_tensor
from torch.distributed.tensor.parallel import (
    ColwiseParallel, RowwiseParallel, parallelize_module
)
from safetensors.torch import load_file
from zerostart_jupyter.load import load_into
from zerostart_jupyter.load.sharding import share

rank, path, layered = int(sys.argv[1]), sys.argv[2], sys.argv[4] == "layered"
dist.init_process_group("gloo", init_method=f"file://{sys.argv[3]}", rank=rank, world_size=2)
mesh = init_device_mesh("cpu", (2,))

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.up = nn.Linear(256, 1000)
        self.down = nn.Linear(1000, 256)
        self.norm = nn.LayerNorm(256)
        self.odd = nn.Parameter(torch.zeros(1001, 256))
    def forward(self, x):
        return self.norm(self.down(torch.relu(self.up(x))))

with torch.device("meta"):
    net = Net()
plan = {"up": ColwiseParallel(), "down": RowwiseParallel()}
parallelize_module(net, mesh, plan)
net.odd = nn.Parameter(distribute_tensor(net.odd, mesh, [Shard(0)], src_data_rank=None))
weights = load_into(net, path, device="cpu", layered=layered)
x = torch.linspace(0, 1, 256).reshape(1, 256)
y = net(x)
weights.wait()
whole = load_file(path)
for name, parameter in net.named_parameters():
    if hasattr(parameter, "placements"):
        expected = distribute_tensor(whole[name], mesh, parameter.placements)
        assert torch.equal(parameter.to_local(), expected.to_local()), name
        assert parameter.shape == whole[name].shape
    else:
        assert torch.equal(parameter, whole[name]), name
plain = Net()
plain.load_state_dict(whole)
assert torch.allclose(y, plain(x), atol=1e-5)
real = Net()
parallelize_module(real, mesh, plan)
load_into(real, path)
assert torch.equal(real.down.weight.to_local(), net.down.weight.to_local())
print(json.dumps({"bytes": weights.bytes, "shape": list(net.odd.to_local().shape)}))
dist.destroy_process_group()
"""


@pytest.mark.parametrize("way", ["whole", "layered"])
def test_two_processes_each_read_their_share(tmp_path: Path, way: str) -> None:
    torch.manual_seed(1)
    model = nn.Module()
    model.up, model.down, model.norm = nn.Linear(256, 1000), nn.Linear(1000, 256), nn.LayerNorm(256)
    model.odd = nn.Parameter(torch.randn(1001, 256))
    path = tmp_path / "net.safetensors"
    save_model(model, str(path))
    whole = sum(tensor.nbytes for tensor in load_file(path).values())
    ranks = [
        subprocess.Popen(
            [sys.executable, "-c", _RANK, str(rank), path, tmp_path / "meeting", way],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            cwd=ROOT,
        )
        for rank in range(2)
    ]
    said = [each.communicate(timeout=240) for each in ranks]
    assert [each.returncode for each in ranks] == [0, 0], "\n".join(errors for _, errors in said)
    answers = [json.loads(out.splitlines()[-1]) for out, _ in said]
    assert [answer["shape"] for answer in answers] == [[501, 256], [500, 256]], "uneven shares"
    matrix = 1000 * 256 * 4
    for answer in answers:
        # Half of the rows of two; of the third, whose columns are shared out, the run of them.
        assert 2 * matrix * 0.95 < answer["bytes"] < whole - matrix * 0.95
