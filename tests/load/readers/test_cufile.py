"""Real kvikio on a libcuda made here: what a GPU would see, without one."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import ClassVar

import pytest

from tests.contracts.reader import BLOCK, STAGES, ReaderContract, content, in_file
from tests.load.fake_cuda.build import FakeCuda, compiled
from tests.load.files import write_shard
from zerostart_jupyter.load.checkpoint import Shard, open_checkpoint
from zerostart_jupyter.load.plan import Plan
from zerostart_jupyter.load.readers import cufile
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.cufile import CuFileReader
from zerostart_jupyter.load.readers.staging import HostStage, TorchStage
from zerostart_jupyter.load.tensors import allocate

pytestmark = pytest.mark.compiler


@pytest.fixture(scope="module")
def cuda(tmp_path_factory: pytest.TempPathFactory) -> FakeCuda:
    return FakeCuda(compiled(tmp_path_factory.mktemp("cuda")))


class TestToDevice(ReaderContract):
    cuda: ClassVar[FakeCuda]

    @pytest.fixture(autouse=True)
    def library(self, cuda: FakeCuda) -> None:
        type(self).cuda = cuda

    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        return CuFileReader(
            shards,
            stage=lambda: TorchStage(block, self.cuda.tensor, "cpu"),
            stages=stages,
            allocate=self.cuda.storage,
            on_device=True,
        )

    def test_the_bytes_went_to_the_device(self, reader: Reader, plan: Plan) -> None:
        before = self.cuda.copied
        for block in plan.blocks:
            reader.read(block)
        assert self.cuda.copied - before >= sum(block.payload for block in plan.blocks)


class TestToHost(ReaderContract):
    @pytest.fixture(autouse=True)
    def library(self, cuda: FakeCuda) -> None:
        pass

    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        return CuFileReader(
            shards,
            stage=lambda: HostStage(block),
            stages=stages,
            allocate=lambda count: allocate(count, "cpu"),
            on_device=False,
        )


def test_says_that_gds_was_not_engaged(cuda: FakeCuda, tmp_path: Path) -> None:
    write_shard(tmp_path / "x.safetensors", {"a": 3 * BLOCK})
    with open_checkpoint(tmp_path) as checkpoint:
        reader = CuFileReader(
            checkpoint.shards,
            stage=lambda: TorchStage(BLOCK, cuda.tensor, "cpu"),
            stages=STAGES,
            allocate=cuda.storage,
            on_device=True,
        )
        for block in Plan(checkpoint.entries.values(), block=BLOCK).blocks:
            reader.read(block)
        found = reader.statistics()
        assert (found["gds"], found["cufile_bytes"]) == ("no", 0)
        assert found["posix_bytes"] == found["bytes"]
        entry = checkpoint.entries["a"]
        assert content(reader.storage(entry)) == in_file(checkpoint.shards[0], entry)
        reader.close()


@pytest.mark.parametrize(
    ("through", "before", "now", "expected"),
    [
        (0, 5, 9, "no"),
        (10, 5, 9, "yes"),
        (10, 5, 5, "no"),
        (10, None, None, "unknown"),
        (10, None, 9, "unknown"),
    ],
)
def test_gds_is_engaged_if_its_driver_read(
    through: int, before: int | None, now: int | None, expected: str
) -> None:
    assert cufile._engaged(through, before, now) == expected


def test_reads_the_drivers_own_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # From the GDS troubleshooting guide, with and without IO statistics.
    stats = tmp_path / "stats"
    monkeypatch.setattr(cufile, "NVIDIA_FS", stats)
    assert cufile._nvidia_fs_reads() is None
    stats.write_text("GDS Version: 1.7\nReads\t\t\t\t: err=0 io_state_err=0\n")
    assert cufile._nvidia_fs_reads() is None
    stats.write_text("GDS Version: 1.7\nReads : n=1374 ok=1374 err=0 readMiB=9 io_state_err=0\n")
    assert cufile._nvidia_fs_reads() == 1374
