from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import pytest
import torch

from tests.load.files import write_shard
from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.load import availability, filesystem, load
from zerostart_jupyter.load.checkpoint import Checkpoint, Shard, open_checkpoint
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers import decide, select, timed
from zerostart_jupyter.load.readers.contract import Reader, Statistics
from zerostart_jupyter.load.readers.direct import DirectReader
from zerostart_jupyter.load.readers.staging import HostStage
from zerostart_jupyter.load.tensors import allocate

MIB = 1 << 20


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read({}, cache=tmp_path / "cache")


@pytest.fixture
def checkpoint(disk_path: Path) -> Iterator[Checkpoint]:
    """Two shards of 40 MiB on a disk, none of it in memory."""
    for number in (1, 2):
        path = disk_path / f"model-0000{number}-of-00002.safetensors"
        with path.open("wb") as file:
            write_shard(path, {f"{number}": 1000})
            os.truncate(path, path.stat().st_size - 1000)
        header = path.read_bytes()
        whole = header.replace(b"1000", b"%d" % (40 * MIB))
        length = len(whole) - 8
        path.write_bytes(length.to_bytes(8, "little") + whole[8:] + os.urandom(40 * MIB))
        with path.open("rb") as file:
            os.fsync(file.fileno())
    with open_checkpoint(disk_path) as opened:
        forget(opened)
        yield opened


def forget(checkpoint: Checkpoint) -> None:
    for shard in checkpoint.shards:
        os.posix_fadvise(shard.descriptor, 0, 0, os.POSIX_FADV_DONTNEED)


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """A device whose memory is the host's; says which ways were put together for it."""
    made: list[str] = []

    def make(name: str, shards: Sequence[Shard], *, block: int, **about: object) -> Reader:
        made.append(name)
        return DirectReader(
            shards,
            stage=lambda: HostStage(block),
            stages=4,
            allocate=lambda count: allocate(count, "cpu"),
            o_direct=name != "buffered",
        )

    monkeypatch.setattr(select, "make", make)
    monkeypatch.setattr(decide, "WORTHWHILE", MIB)
    return made


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> None:
    real = filesystem.of

    def of(descriptor: int) -> filesystem.FileSystem:
        return replace(real(descriptor), name="nfs", network=True)

    monkeypatch.setattr(filesystem, "of", of)


@pytest.fixture(params=[True, False])
def kvikio(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> bool:
    works = bool(request.param)
    monkeypatch.setattr(availability, "cufile", lambda: Capability("load.cufile", works, ""))
    return works


class TestDecision:
    def test_the_cpu_looks_at_a_local_file_through_its_mapping(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str]
    ) -> None:
        assert decide.decide("auto", "cpu", checkpoint.shards, settings).way == "mmap"
        assert gpu == []

    def test_what_was_asked_for_is_not_tried(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str]
    ) -> None:
        found = decide.decide("direct", "cuda:0", checkpoint.shards, settings)
        assert (found.way, found.why) == ("direct", "asked for")
        with pytest.raises(LoadError, match="no reader 'fast'"):
            decide.decide("fast", "cpu", checkpoint.shards, settings)
        assert gpu == []

    def test_a_trial_is_made_once_and_remembered_for_the_file_system(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str], kvikio: bool
    ) -> None:
        first = decide.decide("auto", "cuda:0", checkpoint.shards, settings)
        ways = ["cufile", "direct", "buffered"] if kvikio else ["direct", "buffered"]
        assert gpu == list(first.measured) == ways
        assert first.why == "the fastest in a trial"
        assert first.measured[first.way] >= decide.CLOSE * max(first.measured.values()) > 0
        assert first.statistics()["way"] == first.way
        assert first.statistics()["probe_direct"] == round(first.measured["direct"], 3)
        forget(checkpoint)
        second = decide.decide("auto", "cuda:1", checkpoint.shards, settings)
        assert gpu == ways
        assert (second.way, second.why) == (first.way, "remembered for this file system")

    def test_an_old_outcome_is_not_believed(
        self,
        checkpoint: Checkpoint,
        settings: Settings,
        gpu: list[str],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        decide.decide("auto", "cuda:0", checkpoint.shards, settings)
        monkeypatch.setattr(decide, "REMEMBERED", -1.0)
        forget(checkpoint)
        again = decide.decide("auto", "cuda:0", checkpoint.shards, settings)
        assert again.why == "the fastest in a trial"
        assert len(Store(settings.cache).entries(decide.ROOM)) == 1

    def test_what_is_in_memory_is_read_from_there(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str]
    ) -> None:
        for shard in checkpoint.shards:
            assert len(os.pread(shard.descriptor, 64 * MIB, 0)) == shard.identity.size
        found = decide.decide("auto", "cuda:0", checkpoint.shards, settings)
        assert (found.way, found.why, gpu) == ("buffered", "it is in memory", [])

    def test_a_small_checkpoint_is_not_worth_a_trial(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str], kvikio: bool
    ) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decide, "WORTHWHILE", 1 << 40)
            found = decide.decide("auto", "cuda:0", checkpoint.shards, settings)
        assert found.way == ("cufile" if kvikio else "direct")
        assert gpu == []

    def test_a_network_file_system_is_never_mapped(
        self, checkpoint: Checkpoint, settings: Settings, gpu: list[str], network: None
    ) -> None:
        assert decide.decide("auto", "cpu", checkpoint.shards, settings).way != "mmap"
        assert decide.unmeasured(checkpoint.shards) == "buffered"
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(decide, "WORTHWHILE", 1 << 40)
            forget(checkpoint)
            small = decide.decide("auto", "cpu", checkpoint.shards, settings)
        assert (small.way, small.why) == ("buffered", "nfs is a network file system")

    def test_no_store_no_memory_and_no_error(
        self, checkpoint: Checkpoint, tmp_path: Path, gpu: list[str]
    ) -> None:
        (tmp_path / "file").touch()
        found = decide.decide(
            "auto", "cuda:0", checkpoint.shards, Settings.read({}, cache=tmp_path / "file" / "x")
        )
        assert found.why == "the fastest in a trial"


class Slow(Reader):
    """Takes a fixed time for a block, by a clock of its own."""

    name = "slow"
    clock: ClassVar[float] = 0.0

    def __init__(self, shards: Sequence[Shard], seconds: float, fails: bool = False) -> None:
        super().__init__(shards)
        self._seconds = seconds
        self._fails = fails
        self.blocks: list[tuple[int, int]] = []

    def read(self, block: Block) -> None:
        if self._fails:
            raise OSError("no")
        Slow.clock += self._seconds
        self.blocks.append((block.shard, block.start))

    def storage(self, entry: object) -> torch.UntypedStorage:
        return torch.UntypedStorage(0)

    def statistics(self) -> Statistics:
        return {}


def test_the_trial_compares_what_each_way_takes_and_leaves_out_what_fails(
    checkpoint: Checkpoint, monkeypatch: pytest.MonkeyPatch
) -> None:
    readers = {
        "quick": Slow(checkpoint.shards, 0.01),
        "slow": Slow(checkpoint.shards, 0.04),
        "broken": Slow(checkpoint.shards, 0.01, fails=True),
    }
    monkeypatch.setattr(timed, "LEAST", 2)
    monkeypatch.setattr(timed.time, "monotonic", lambda: Slow.clock)
    found = timed.trial(checkpoint.shards, list(readers), readers.__getitem__, 1)
    assert list(found) == ["quick", "slow"]
    assert found["quick"] == pytest.approx(timed.BLOCK / 1e9 / 0.01)
    assert found["quick"] == pytest.approx(4 * found["slow"])
    assert not set(readers["quick"].blocks) & set(readers["slow"].blocks)


def test_the_cheapest_of_about_equals_is_taken() -> None:
    assert decide._best({"cufile": 0.95, "direct": 1.0, "buffered": 0.99}) == "cufile"
    assert decide._best({"cufile": 0.5, "direct": 0.95, "buffered": 1.0}) == "direct"


def test_samples_say_how_much_is_in_memory(checkpoint: Checkpoint) -> None:
    assert timed.cached(checkpoint.shards) == pytest.approx(0.0, abs=0.2)
    assert len(os.pread(checkpoint.shards[0].descriptor, 64 * MIB, 0)) > 40 * MIB
    found = timed.cached(checkpoint.shards)
    assert found is not None
    assert 0.4 < found < 0.8
    assert timed.cached([]) is None


def test_a_load_says_which_way_it_took_and_why(disk_path: Path, tmp_path: Path) -> None:
    write_shard(disk_path / "x.safetensors", {"a": 5000})
    settings = Settings.read({}, cache=tmp_path)
    weights = load(disk_path, device="cpu", settings=settings)
    assert weights.statistics["way"] == "mmap"
    assert weights.statistics["why"] == "views of the file cost no memory"


def test_file_systems_are_told_apart(tmp_path: Path, disk_path: Path) -> None:
    here, proc = filesystem.of_path(disk_path), filesystem.of_path("/proc")
    assert here.key != proc.key
    assert proc.name == "9fa0"
    assert not here.network
    assert filesystem.of_path("/dev/shm").memory
    with pytest.raises(OSError, match="Bad file descriptor"):
        filesystem.of(-1)
