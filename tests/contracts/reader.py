"""What every reader must do. A reader's tests inherit this class and say how one is made."""

from __future__ import annotations

import ctypes
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import torch

from tests.load.files import write_shard
from zerostart_jupyter.core.errors import CheckpointChanged
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, Shard, open_checkpoint
from zerostart_jupyter.load.plan import ALIGN, Plan
from zerostart_jupyter.load.readers.contract import Reader

BLOCK = 4 * ALIGN
STAGES = 2
SIZES = {"a": 3, "b": 5 * BLOCK + 17, "c": 1, "d": 4096, "e": 9000}


def content(storage: torch.UntypedStorage) -> bytes:
    return ctypes.string_at(storage.data_ptr(), storage.nbytes())


def in_file(shard: Shard, entry: Entry) -> bytes:
    return os.pread(shard.descriptor, entry.nbytes, entry.start)


class ReaderContract(ABC):
    @abstractmethod
    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        """The reader under test."""

    def open(self, folder: Path) -> Checkpoint:
        """The checkpoint in a directory, as this reader meets it."""
        return open_checkpoint(folder)

    @pytest.fixture
    def checkpoint(self, tmp_path: Path) -> Iterator[Checkpoint]:
        # Data that begins on no page, in no step with the other shard, and ends on none.
        for number, pad in enumerate((0, 1234), 1):
            sizes = {f"{number}.{name}": size for name, size in SIZES.items()}
            path = tmp_path / f"model-{number:05d}-of-00002.safetensors"
            write_shard(path, sizes, pad=pad, seed=number)
        with self.open(tmp_path) as opened:
            yield opened

    @pytest.fixture
    def reader(self, checkpoint: Checkpoint) -> Iterator[Reader]:
        reader = self.make(checkpoint.shards, block=BLOCK, stages=STAGES)
        yield reader
        reader.close()

    @pytest.fixture
    def plan(self, checkpoint: Checkpoint) -> Plan:
        return Plan(checkpoint.entries.values(), block=BLOCK)

    def check(self, reader: Reader, checkpoint: Checkpoint, names: Sequence[str]) -> None:
        for name in names:
            entry = checkpoint.entries[name]
            assert content(reader.storage(entry)) == in_file(checkpoint.shards[entry.shard], entry)

    def test_brings_every_byte(self, reader: Reader, checkpoint: Checkpoint, plan: Plan) -> None:
        for block in plan.blocks:
            reader.read(block)
        self.check(reader, checkpoint, list(checkpoint.entries))

    def test_takes_blocks_in_any_order(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        for block in reversed(plan.blocks):
            reader.read(block)
        self.check(reader, checkpoint, list(checkpoint.entries))

    def test_is_read_from_several_threads(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        with ThreadPoolExecutor(4) as threads:
            list(threads.map(reader.read, plan.blocks))
        self.check(reader, checkpoint, list(checkpoint.entries))

    def test_reads_some_tensors_without_the_rest(
        self, reader: Reader, checkpoint: Checkpoint
    ) -> None:
        names = ["1.a", "1.e", "2.c"]
        plan = Plan([checkpoint.entries[name] for name in names], block=BLOCK, gap=0)
        for block in plan.blocks:
            reader.read(block)
        self.check(reader, checkpoint, names)

    def test_a_tensor_is_writable_and_the_file_is_not_written(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        for block in plan.blocks:
            reader.read(block)
        entry = checkpoint.entries["1.b"]
        before = in_file(checkpoint.shards[0], entry)
        storage = reader.storage(entry)
        ctypes.memset(storage.data_ptr(), before[0] ^ 255, storage.nbytes())
        assert in_file(checkpoint.shards[0], entry) == before
        neighbour = checkpoint.entries["1.c"]
        assert content(reader.storage(neighbour)) == in_file(checkpoint.shards[0], neighbour)

    def test_storages_outlive_reader_and_files(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        for block in plan.blocks:
            reader.read(block)
        entry = checkpoint.entries["2.b"]
        expected = in_file(checkpoint.shards[1], entry)
        storage = reader.storage(entry)
        reader.close()
        checkpoint.close()
        assert content(storage) == expected

    def test_a_file_cut_short_is_an_error_and_no_signal(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        os.truncate(checkpoint.shards[1].path, 2 * ALIGN)
        last = plan.blocks[-1]
        with pytest.raises(CheckpointChanged, match="changed while it was being read"):
            reader.read(last)
        for block in plan.blocks:  # the other shard is as it was
            if block.shard == 0:
                reader.read(block)
        self.check(reader, checkpoint, ["1.b"])

    def test_a_failed_read_does_not_take_a_place_for_good(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        os.truncate(checkpoint.shards[1].path, 2 * ALIGN)
        for _ in range(STAGES + 1):
            with pytest.raises(CheckpointChanged):
                reader.read(plan.blocks[-1])
        reader.read(plan.blocks[0])

    def test_a_file_replaced_meanwhile_is_read_as_it_was(
        self, reader: Reader, checkpoint: Checkpoint, plan: Plan
    ) -> None:
        shard = checkpoint.shards[0]
        shard.path.rename(shard.path.with_suffix(".old"))
        shard.path.write_bytes(b"another file")
        for block in plan.blocks:
            reader.read(block)
        self.check(reader, checkpoint, list(checkpoint.entries))

    def test_leaves_no_descriptor_open(self, checkpoint: Checkpoint, plan: Plan) -> None:
        def round_trip() -> None:
            reader = self.make(checkpoint.shards, block=BLOCK, stages=STAGES)
            for block in plan.blocks:
                reader.read(block)
            reader.close()
            reader.close()

        round_trip()  # libraries open theirs once and keep them
        before = sorted(os.listdir("/proc/self/fd"))
        round_trip()
        assert sorted(os.listdir("/proc/self/fd")) == before

    def test_counts_what_it_read(self, reader: Reader, plan: Plan) -> None:
        assert reader.statistics()["bytes"] == 0
        for block in plan.blocks:
            reader.read(block)
        payload = sum(block.payload for block in plan.blocks)
        counted = reader.statistics()["bytes"]
        assert isinstance(counted, int)
        assert payload <= counted <= payload + 2 * ALIGN * len(plan.blocks)
