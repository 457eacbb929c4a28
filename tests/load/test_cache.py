from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

import zerostart
from tests.load.faults.build import Faulty
from tests.load.files import descriptors, save_sharded
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import CheckpointChanged, CheckpointNotFound, LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import ModelCache, cache, load
from zerostart_jupyter.load.copying import FileOrigin

MIB = 1 << 20


@pytest.fixture
def settings(disk_path: Path) -> Settings:
    return Settings.read({}, cache=disk_path / "cache")


@pytest.fixture
def models(settings: Settings) -> ModelCache:
    return ModelCache(settings=settings)


@pytest.fixture
def make(tmp_path: Path) -> Callable[[str, int], Path]:
    def made(name: str, size: int) -> Path:
        path = tmp_path / f"{name}.safetensors"
        save_file({name: torch.zeros(size, dtype=torch.uint8)}, path)
        return path

    return made


def names(models: ModelCache) -> list[str]:
    return [entry.path.stem for entry in models.list_entries()]


def used(models: ModelCache, path: Path, seconds: float) -> None:
    entry = models.get(path)
    assert entry is not None
    os.utime(entry.path, ns=(int((entry.created + seconds) * 1e9), entry.path.stat().st_mtime_ns))


class TestEntries:
    def test_a_copy_is_made_once_for_what_a_file_is(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        path = make("a", 3 * MIB)
        before = descriptors()
        assert models.get(path) is None
        first = models.add(path)
        assert first.path.read_bytes() == path.read_bytes()
        assert (first.kind, first.source, first.pinned) == ("copy", str(path), False)
        assert first.bytes >= path.stat().st_size
        assert models.add(path).key == first.key
        assert models.get(path) == models.list_entries()[0]
        assert first.as_json()["path"] == str(first.path)
        assert descriptors() == before

    def test_a_file_that_changed_is_another_and_its_old_copy_goes(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        first = models.add(make("a", 1000))
        os.utime(make("a", 1000), ns=(5, 5))
        path = Path(first.source)
        assert models.get(path) is None
        second = models.add(path)
        assert second.key != first.key
        assert [entry.key for entry in models.list_entries()] == [second.key]

    def test_eviction_takes_the_least_recently_used_first(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        paths = [make(name, MIB) for name in "abcd"]
        for path in paths:
            models.add(path)
        for path, seconds in zip(paths, (30, 10, 40, 20), strict=True):
            used(models, path, seconds)
        assert names(models) == ["b", "d", "a", "c"]
        removed = models.auto_evict(models.size_bytes - 3 * MIB // 2)
        assert [entry.path.stem for entry in removed] == ["b", "d"]
        assert models.auto_evict(models.size_bytes) == []
        assert [entry.path.stem for entry in models.auto_evict(0)] == ["a", "c"]
        assert models.list_entries() == []

    def test_pinned_entries_stay_until_they_are_let_go(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        entry = models.add(make("a", 1000))
        models.add(make("b", 1000))
        models.pin(entry)
        assert [each.path.stem for each in models.auto_evict(0)] == ["b"]
        assert models.list_entries()[0].pinned
        models.unpin(entry.key)
        models.unpin(entry.key)
        assert [each.path.stem for each in models.auto_evict(0)] == ["a"]
        with pytest.raises(CheckpointNotFound, match=r"no entry copy-.*list_entries"):
            models.pin(entry)

    def test_prune_takes_what_was_not_used_for_days(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        for name in "abc":
            models.add(make(name, 1000))
        models.pin(models.list_entries()[0])
        assert models.prune(days=1) == []
        assert [entry.path.stem for entry in models.prune(days=-1)] == ["b", "c"]

    def test_the_limit_makes_room_and_what_is_larger_is_refused(
        self, settings: Settings, make: Callable[[str, int], Path]
    ) -> None:
        limit = replace(settings, model_cache_gb=2.5 / 1024)
        models = ModelCache(settings=limit)
        models.add(make("a", MIB))
        models.add(make("b", MIB))
        models.add(make("c", MIB))
        assert names(models) == ["b", "c"]
        with pytest.raises(LoadError, match=r"no room to keep .*big.*ZS_MODEL_CACHE_GB"):
            models.add(make("big", 3 * MIB))

    def test_a_full_disk_is_not_filled_further(
        self,
        models: ModelCache,
        make: Callable[[str, int], Path],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        models.add(make("a", MIB))
        monkeypatch.setattr(cache, "RESERVE", 1 << 60)
        with pytest.raises(LoadError, match="no room"):
            models.add(make("b", MIB))
        assert models.list_entries() == []

    def test_a_missing_file(self, models: ModelCache, tmp_path: Path) -> None:
        with pytest.raises(CheckpointNotFound, match="no file"):
            models.add(tmp_path / "absent")

    def test_an_entry_that_is_being_opened_is_not_evicted(
        self, models: ModelCache, make: Callable[[str, int], Path]
    ) -> None:
        path = make("a", 1000)
        models.add(path)
        kept = models.begin(path)
        assert isinstance(kept, cache.Kept)
        assert models.auto_evict(0) == []
        kept.lease.close()
        assert len(models.auto_evict(0)) == 1

    def test_it_is_public(self) -> None:
        assert zerostart.ModelCache is ModelCache


class TestOrigin:
    def test_a_file_that_changes_is_not_copied(self, tmp_path: Path) -> None:
        path = tmp_path / "a"
        path.write_bytes(bytes(1000))
        origin = FileOrigin(path, cache.FileIdentity.of(path))
        os.utime(path, ns=(1, 1))
        with pytest.raises(CheckpointChanged):
            origin.read(0, 10, lambda at, block: None)
        os.truncate(path, 5)
        with pytest.raises(CheckpointChanged):
            origin.read(8, 10, lambda at, block: None)
        origin.close()
        origin.close()
        path.unlink()
        with pytest.raises(LoadError, match="could not be read at byte 0: No such file"):
            FileOrigin(path, replace(cache.FileIdentity(0, 0, 0, 0)))


class TestNetworkFileSystem:
    def test_is_copied_while_it_is_first_read_and_not_touched_again(
        self, far: Path, settings: Settings
    ) -> None:
        tensors = {"a": torch.randn(900, 1000), "b": torch.randn(300, 1000)}
        save_sharded(far / "m", [{"a": tensors["a"]}, {"b": tensors["b"]}])
        before = descriptors()
        first = load(far / "m", device="cpu", settings=settings)
        assert first.statistics["downloaded_bytes"] == sum(
            path.stat().st_size for path in (far / "m").glob("*.safetensors")
        )
        assert (first.reader, first.title) == ("remote", "m")
        second = load(far / "m", device="cpu", settings=settings)
        assert second.reader == "mmap"
        for weights in (first, second):
            assert all(torch.equal(weights[name], tensors[name]) for name in tensors)
            assert all(path.is_relative_to(settings.cache) for path in weights.files)
        assert [entry.kind for entry in ModelCache(settings=settings).list_entries()] == [
            "copy",
            "copy",
        ]
        assert descriptors() == before

    def test_without_room_it_is_read_where_it_is_but_not_through_its_mapping(
        self, far: Path, settings: Settings
    ) -> None:
        save_file({"a": torch.ones(100)}, far / "a.safetensors")
        none = replace(settings, model_cache_gb=0.0)
        weights = load(far / "a.safetensors", device="cpu", settings=none)
        assert (weights.reader, weights.statistics["why"]) == ("direct", "it is in memory")
        assert torch.equal(weights["a"], torch.ones(100))
        assert ModelCache(settings=settings).list_entries() == []

    def test_a_cancelled_copy_goes_on_where_it_was(self, far: Path, settings: Settings) -> None:
        path = far / "a.safetensors"
        save_file({f"{n}": torch.full((MIB,), n, dtype=torch.uint8) for n in range(40)}, path)
        one = replace(settings, chunk_mb=1, parallel_downloads=1)
        weights = load(path, device="cpu", settings=one, background=True)
        weights["3"]
        weights.cancel()
        arrived = threading.Event()
        weights._when_done.append(arrived.set)
        assert weights.done or arrived.wait(PATIENCE)
        again = load(path, device="cpu", settings=one)
        assert all(int(again[f"{n}"][-1]) == n for n in range(40))
        downloaded = again.statistics.get("downloaded_bytes", 0)
        assert isinstance(downloaded, int)
        assert downloaded < path.stat().st_size


COPY = """
import json, sys
from zerostart_jupyter.load import load, ModelCache
print("ready", flush=True)
sys.stdin.readline()
for _ in range(int(sys.argv[2])):
    weights = load(sys.argv[1], device="cpu")
    total = sum(int(weights[name].sum()) for name in weights)
    maps = open("/proc/self/maps").read()
    evicted = len(ModelCache().auto_evict(int(sys.argv[3])))
    print(json.dumps([total, weights.reader, weights.statistics.get("downloaded_bytes", 0),
                      sys.argv[1] in maps, evicted]), flush=True)
"""


@pytest.mark.compiler
class TestProcesses:
    def together(
        self, faulty: Faulty, folder: Path, rounds: int, limit: int
    ) -> list[list[list[object]]]:
        both = [
            faulty.start(COPY, folder, rounds, limit, below=folder, fault="nfs") for _ in range(2)
        ]
        for each in both:
            assert each.stdout is not None
            assert each.stdout.readline() == "ready\n"
        found = []
        for each in both:
            assert each.stdin is not None
            each.stdin.write("go\n")
            each.stdin.flush()
        for each in both:
            out, err = each.communicate(timeout=120)
            assert each.returncode == 0, err
            found.append([json.loads(line) for line in out.splitlines()])
        return found

    def test_two_copy_once(self, faulty: Faulty, tmp_path: Path) -> None:
        save_sharded(tmp_path / "m", [{"a": torch.ones(MIB)}, {"b": torch.ones(MIB)}])
        whole = sum(path.stat().st_size for path in (tmp_path / "m").glob("*.safetensors"))
        found = self.together(faulty, tmp_path / "m", 1, 1 << 40)
        assert [each[0][0] for each in found] == [2 * MIB, 2 * MIB]
        assert sorted(int(str(each[0][2])) for each in found) == [0, whole]
        assert not any(each[0][3] for each in found), "mapped over the network"

    def test_one_evicts_what_the_other_loads(self, faulty: Faulty, tmp_path: Path) -> None:
        save_sharded(tmp_path / "m", [{"a": torch.ones(MIB)}, {"b": torch.ones(MIB)}])
        found = self.together(faulty, tmp_path / "m", 6, 0)
        assert all(line[0] == 2 * MIB for each in found for line in each)
        assert sum(int(str(line[4])) for each in found for line in each) > 0
