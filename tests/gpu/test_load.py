"""What only a GPU can show: the stages, streams and destinations of the readers for it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.load.files import every_dtype, save_sharded
from tests.load.test_loader import reference, same
from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import availability, load

pytestmark = pytest.mark.gpu


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    big = torch.randn(3000, 4096, generator=torch.Generator().manual_seed(5))
    save_sharded(tmp_path / "tiny", [{"big.0": big}, every_dtype(), {"big.1": big.bfloat16()}])
    return tmp_path / "tiny"


@pytest.mark.parametrize("reader", ["mmap", "direct", "cufile"])
@pytest.mark.parametrize("background", [False, True])
def test_bit_for_bit_on_the_device(sharded: Path, reader: str, background: bool) -> None:
    if reader == "cufile" and not availability.cufile():
        pytest.skip(availability.cufile().reason)
    weights = load(sharded, device="cuda:0", reader=reader, background=background).wait()
    for name, expected in reference(sharded).items():
        assert weights[name].device == torch.device("cuda:0")
        assert same(weights[name].cpu(), expected), name


def test_memory_on_the_device_is_that_of_the_weights_and_the_stages(sharded: Path) -> None:
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    weights = load(sharded, device="cuda:0", reader="direct")
    assert torch.cuda.max_memory_allocated() - before <= weights.bytes + (512 << 20)


def test_a_copy_does_not_overtake_work_that_uses_the_memory_before(sharded: Path) -> None:
    expected = reference(sharded)["big.0"]
    old = torch.ones_like(expected, device="cuda:0")
    for _ in range(50):
        old = old @ old.T[:, :1] * 0 + old  # keeps the device busy with memory that is then freed
    total = old.sum()
    del old
    weights = load(sharded, device="cuda:0", reader="direct")
    assert total.item() == expected.numel()
    assert same(weights["big.0"].cpu(), expected)


def test_tensors_on_the_device_are_known_to_the_register(sharded: Path) -> None:
    weights = load(sharded, device="cuda:0", reader="direct")
    living = {
        live.name: live for live in references().live() if live.reference.path in weights.files
    }
    assert living["big.0"].device == "cuda:0"
    assert living["big.0"].address == weights["big.0"].data_ptr()
