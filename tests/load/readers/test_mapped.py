from __future__ import annotations

import gc
import resource
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.contracts.reader import BLOCK, ReaderContract, content, in_file
from tests.load.files import write_shard
from tests.patience import eventually
from zerostart_jupyter.bench.rounds import drop
from zerostart_jupyter.core.errors import CheckpointChanged, LoadError
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.load import disk, first_touch, load, pages
from zerostart_jupyter.load.checkpoint import Checkpoint, Shard, open_checkpoint
from zerostart_jupyter.load.plan import Plan
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.mapped import MmapReader


class TestPopulate(ReaderContract):
    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        reader = MmapReader(shards)
        assert reader.statistics()["how"] == "populate", "Linux has it since 5.14"
        return reader


class TestWithoutPopulate(ReaderContract):
    def make(self, shards: Sequence[Shard], *, block: int, stages: int) -> Reader:
        reader = MmapReader(shards, populate=False)
        assert reader.statistics()["how"] == "pread"
        return reader


def mapped_pages(path: Path) -> list[str]:
    return [line for line in Path("/proc/self/maps").read_text().splitlines() if str(path) in line]


def test_the_mapping_goes_with_its_last_tensor(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_shard(path, {"a": 9000, "b": 9000})
    with open_checkpoint(path) as checkpoint:
        reader = MmapReader(checkpoint.shards)
        first = reader.storage(checkpoint.entries["a"])
        second = reader.storage(checkpoint.entries["b"])
        reader.close()
    assert len(mapped_pages(path)) == 1
    del first
    assert len(mapped_pages(path)) == 1
    del second
    assert mapped_pages(path) == []


def test_a_file_cut_within_its_last_page_is_noticed_by_its_identity(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_shard(path, {"a": 9000})
    with open_checkpoint(path) as checkpoint:
        reader = MmapReader(checkpoint.shards)
        with path.open("r+b") as file:
            file.truncate(path.stat().st_size - 1)
        for block in Plan(checkpoint.entries.values(), block=BLOCK).blocks:
            reader.read(block)
        with pytest.raises(CheckpointChanged):
            checkpoint.shards[0].verify()
        reader.close()


def test_a_mapping_that_the_system_refuses_is_an_error_with_a_way_out(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    path.write_bytes(b"")
    with path.open("r+b") as file:
        file.truncate(1 << 43)  # sparse, and larger than what is allowed below
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    with path.open("rb") as file:
        shard = Shard(path, file.fileno(), FileIdentity.of(file.fileno()))
        resource.setrlimit(resource.RLIMIT_AS, (1 << 42, hard))
        try:
            with pytest.raises(LoadError, match=r"cannot be mapped.*reader=\"direct\""):
                MmapReader([shard])
        finally:
            resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_closing_the_checkpoint_is_not_the_readers_business(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_shard(path, {"a": 5000})
    checkpoint: Checkpoint = open_checkpoint(path)
    MmapReader(checkpoint.shards).close()
    checkpoint.shards[0].verify()
    checkpoint.close()


def test_storages_may_be_asked_for_before_their_bytes_are_read(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    write_shard(path, {"a": 9000, "b": 9000})
    with open_checkpoint(path) as checkpoint:
        reader = MmapReader(checkpoint.shards)
        assert reader.ahead
        entry = checkpoint.entries["b"]
        early = reader.storage(entry)
        for block in Plan(checkpoint.entries.values(), block=BLOCK).blocks:
            reader.read(block)
        assert content(early) == in_file(checkpoint.shards[0], entry)
        reader.close()


def drop_unmapped(path: Path) -> None:
    """Out of memory, once the load before has let go of what it had mapped."""

    def gone() -> bool:
        gc.collect()
        drop([path])
        return disk.cached([path]) == 0

    eventually(gone)


def test_pages_are_touched_while_the_disk_is_at_work_and_not_where_it_is_not(
    disk_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk_path / "x.safetensors"
    save_file({"a": torch.zeros(1024, 1024)}, path)
    touched: list[int] = []
    touch = first_touch.touch
    monkeypatch.setattr(
        first_touch, "touch", lambda address, count: touched.append(touch(address, count))
    )
    assert load(path, device="cpu")["a"].sum() == 0
    assert touched == []  # it was just written
    drop_unmapped(path)
    assert load(path, device="cpu", background=True)["a"].sum() == 0
    assert touched == []  # a cell may have the GIL
    drop_unmapped(path)
    assert load(path, device="cpu")["a"].sum() == 0
    assert sum(touched) == -(-path.stat().st_size // pages.PAGE)
