from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.contracts.reader import BLOCK, STAGES, ReaderContract, content, in_file
from tests.load.files import descriptors, write_shard
from zerostart_jupyter.load import pages
from zerostart_jupyter.load.checkpoint import Checkpoint, Shard, open_checkpoint
from zerostart_jupyter.load.plan import Plan
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.direct import DirectReader
from zerostart_jupyter.load.readers.staging import HostStage, TorchStage
from zerostart_jupyter.load.tensors import allocate


def memory(count: int) -> torch.UntypedStorage:
    return allocate(count, "cpu")


class TestDirect(ReaderContract):
    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        return DirectReader(shards, stage=lambda: HostStage(block), stages=stages, allocate=memory)


class TestBuffered(ReaderContract):
    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        return DirectReader(
            shards,
            stage=lambda: HostStage(block),
            stages=stages,
            allocate=memory,
            o_direct=False,
        )


class TestThroughTorch(ReaderContract):
    """The stage a GPU gets, with ordinary memory in place of pinned: the same copies, no stream."""

    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        def buffer(count: int) -> torch.Tensor:
            return torch.empty(count, dtype=torch.uint8)

        return DirectReader(
            shards,
            stage=lambda: TorchStage(block, buffer, "cpu"),
            stages=stages,
            allocate=memory,
        )


@pytest.fixture
def checkpoint(disk_path: Path) -> Checkpoint:
    write_shard(disk_path / "x.safetensors", {"a": 3 * BLOCK, "b": 77})
    return open_checkpoint(disk_path)


def reader_of(checkpoint: Checkpoint) -> DirectReader:
    return DirectReader(
        checkpoint.shards, stage=lambda: HostStage(BLOCK), stages=STAGES, allocate=memory
    )


def read_all(reader: Reader, checkpoint: Checkpoint) -> None:
    for block in Plan(checkpoint.entries.values(), block=BLOCK).blocks:
        reader.read(block)
    for entry in checkpoint.entries.values():
        assert content(reader.storage(entry)) == in_file(checkpoint.shards[0], entry)


def test_says_how_much_went_past_the_page_cache(checkpoint: Checkpoint) -> None:
    with checkpoint:
        reader = reader_of(checkpoint)
        read_all(reader, checkpoint)
        found = reader.statistics()
        reader.close()
    assert found["bytes"] == found["direct_bytes"]
    assert found["buffered_bytes"] == 0


def test_a_file_system_without_o_direct_is_read_buffered(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    # proc(5) files refuse O_DIRECT, as some file systems do.
    with open("/proc/self/status") as file:
        assert pages.open_direct(file.fileno()) is None
    monkeypatch.setattr(pages, "open_direct", lambda descriptor: None)
    with checkpoint:
        reader = reader_of(checkpoint)
        read_all(reader, checkpoint)
        assert reader.statistics()["direct_bytes"] == 0
        reader.close()


class Crooked(HostStage):
    """Begins one byte after a page: direct I/O refuses such memory when it is asked to read."""

    def __init__(self, nbytes: int) -> None:
        super().__init__(nbytes + 1)
        self.address += 1


def test_a_refusal_at_the_first_read_falls_back_too(checkpoint: Checkpoint) -> None:
    with checkpoint:
        reader = DirectReader(
            checkpoint.shards, stage=lambda: Crooked(BLOCK), stages=STAGES, allocate=memory
        )
        before = descriptors()
        read_all(reader, checkpoint)
        assert reader.statistics()["direct_bytes"] == 0
        assert descriptors() == before, "others may be reading through the refused one"
        reader.close()
        assert len(descriptors()) == len(before) - 1


def test_an_error_of_the_disk_is_no_refusal(checkpoint: Checkpoint) -> None:
    # /proc/self/mem gives EIO where nothing is mapped.
    with checkpoint, open("/proc/self/mem", "rb") as broken:
        reader = reader_of(checkpoint)
        assert reader._direct[0] is not None
        os.dup2(broken.fileno(), reader._direct[0], inheritable=False)
        with pytest.raises(OSError, match="Input/output error"):
            read_all(reader, checkpoint)
        reader.close()
