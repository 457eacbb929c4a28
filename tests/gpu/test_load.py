"""What only a GPU can show: the stages, streams and destinations of the readers for it.

On a machine that has nothing but torch and a driver, `python tests/gpu/bare.py` runs this file
with what was carried along.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from tests.contracts.device import OnDevice, reference, same
from zerostart_jupyter.load import availability, load

pytestmark = pytest.mark.gpu

SPARE = 512 << 20  # bytes of staging that a load may have on the device


class TestOnGpu(OnDevice):
    device = "cuda:0"

    @pytest.fixture(params=["auto", "mmap", "direct", "cufile"])
    def reader(self, request: pytest.FixtureRequest) -> str:
        name = str(request.param)
        if name == "cufile" and not availability.cufile():
            pytest.skip(availability.cufile().reason)  # told by -rs
        return name

    def test_memory_on_the_device_is_that_of_the_weights_and_the_stages(
        self, sharded: Path, reader: str
    ) -> None:
        load(sharded, device=self.device, reader=reader)
        torch.cuda.synchronize()
        free, _ = torch.cuda.mem_get_info()
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
        weights = load(sharded, device=self.device, reader=reader)
        assert torch.cuda.max_memory_allocated() - before <= weights.bytes + SPARE
        # What others than torch took of it, kvikio's own staging for one.
        assert free - torch.cuda.mem_get_info()[0] <= weights.bytes + SPARE

    def test_a_copy_does_not_overtake_work_that_uses_the_memory_before(self, sharded: Path) -> None:
        expected = reference(sharded)["big.0"]
        old = torch.ones_like(expected, device=self.device)
        for _ in range(50):
            old = old @ old.T[:, :1] * 0 + old  # keeps the device busy with memory then freed
        total = old.sum()
        del old
        weights = load(sharded, device=self.device, reader="direct")
        assert total.item() == expected.numel()
        assert same(weights["big.0"], expected)

    def test_what_is_queued_on_another_stream_sees_the_tensors(
        self, sharded: Path, reader: str
    ) -> None:
        expected = reference(sharded)["big.0"]
        weights = load(sharded, device=self.device, reader=reader, background=True)
        stream = torch.cuda.Stream()
        with torch.cuda.stream(stream):
            copied = weights["big.0"].clone()
        stream.synchronize()
        assert same(copied, expected)
        weights.wait()
