"""Our `safe_open` beside safetensors' own: the same answers, the same errors."""

from __future__ import annotations

import gc
import os
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import safetensors
import torch
from safetensors.torch import save_file

from tests.load.files import descriptors, every_dtype, file_bytes
from tests.load.gate import Gate
from tests.load.test_loader import same
from tests.patience import PATIENCE, eventually
from zerostart_jupyter.core.errors import Cancelled, CheckpointChanged
from zerostart_jupyter.core.events import Event, State, hub
from zerostart_jupyter.core.references import references
from zerostart_jupyter.load import ModelCache, drop_in, load, loader
from zerostart_jupyter.load.arriving import Stopped
from zerostart_jupyter.load.copying import FileOrigin


@pytest.fixture
def path(tmp_path: Path) -> Path:
    tensors = {**every_dtype(), "z": torch.arange(24.0).reshape(4, 6), "b": torch.ones(3)}
    save_file(tensors, tmp_path / "x.safetensors", metadata={"format": "pt"})
    return tmp_path / "x.safetensors"


@pytest.fixture
def shards(tmp_path: Path) -> list[Path]:
    """Three files of one tensor of several blocks each."""
    paths = [tmp_path / f"model-{number:05d}-of-00003.safetensors" for number in range(1, 4)]
    for number, each in enumerate(paths):
        save_file({f"layer.{number}": torch.full((3 << 20,), float(number))}, each)
    return paths


def outcome(work: Callable[[], Any]) -> tuple[str, Any]:
    try:
        return "value", work()
    except Exception as error:
        return type(error).__name__, str(error)


class TestParity:
    def test_names_metadata_and_tensors(self, path: Path) -> None:
        with (
            safetensors.safe_open(path, framework="pt") as theirs,
            drop_in.safe_open(path, framework="pt") as ours,
        ):
            assert isinstance(ours, drop_in.OpenFile)
            assert ours.keys() == theirs.keys()
            assert ours.offset_keys() == theirs.offset_keys()
            assert ours.metadata() == theirs.metadata()
            for name in theirs.keys():  # noqa: SIM118 -- it is no mapping
                assert same(ours.get_tensor(name), theirs.get_tensor(name)), name
                one, other = ours.get_slice(name), theirs.get_slice(name)
                assert (one.get_shape(), one.get_dtype()) == (other.get_shape(), other.get_dtype())
                assert same(one[...], other[...])
            found = ours.get_tensors()
            assert all(same(tensor, found[name]) for name, tensor in theirs.get_tensors().items())

    @pytest.mark.parametrize(
        "index",
        [
            *(..., (), 1, -1, 10, (1, 2), None, [0, 2], torch.tensor([0, 2]), slice(1, 3)),
            *(slice(0, 4, 2), slice(3, 1), slice(-2, None), slice(0, 100), (slice(None), -1)),
            *((slice(None), slice(2, 4)), (..., slice(0, 2)), (slice(None),) * 3),
        ],
        ids=str,
    )
    def test_indexing(self, path: Path, index: Any) -> None:
        theirs = safetensors.safe_open(path, framework="pt").get_slice("z")
        ours = drop_in.safe_open(path, framework="pt").get_slice("z")
        kind, value = outcome(lambda: theirs[index])
        assert outcome(lambda: ours[index])[0] == kind
        if kind == "value":
            assert same(ours[index], value)
        else:
            assert outcome(lambda: ours[index]) == (kind, value)

    @pytest.mark.parametrize(
        "use",
        [
            lambda file: file.get_tensor("absent"),
            lambda file: file.get_slice("absent"),
            lambda file: (file.__exit__(None, None, None), file.keys()),
            lambda file: (file.__exit__(None, None, None), file.get_tensor("z")),
        ],
    )
    def test_misuse(self, path: Path, use: Callable[[Any], Any]) -> None:
        theirs = outcome(lambda: use(safetensors.safe_open(path, framework="pt")))
        assert theirs[0] == "SafetensorError"
        assert outcome(lambda: use(drop_in.safe_open(path, framework="pt"))) == theirs

    def test_a_slice_outlives_its_file(self, path: Path) -> None:
        with drop_in.safe_open(path, framework="pt") as file:
            early, late = file.get_slice("b"), file.get_slice("z")
            early[...]
        del file
        assert torch.equal(late[...], torch.arange(24.0).reshape(4, 6))

    @pytest.mark.parametrize("content", [b"", b"garbage", file_bytes({}, b"trailing")])
    def test_what_is_invalid_has_safetensors_own_error(
        self, tmp_path: Path, content: bytes
    ) -> None:
        path = tmp_path / "bad.safetensors"
        path.write_bytes(content)
        theirs = outcome(lambda: safetensors.safe_open(path, framework="pt"))
        assert theirs[0] == "SafetensorError"
        assert outcome(lambda: drop_in.safe_open(path, framework="pt")) == theirs
        assert outcome(lambda: drop_in.load_file(path)) == theirs

    @pytest.mark.parametrize("name", ["absent.safetensors", "."])
    def test_what_is_not_there(self, tmp_path: Path, name: str) -> None:
        path = tmp_path / name
        theirs = outcome(lambda: safetensors.safe_open(path, framework="pt"))
        assert outcome(lambda: drop_in.safe_open(path, framework="pt")) == theirs

    def test_other_frameworks_and_ways_are_left_to_it(self, path: Path) -> None:
        assert not isinstance(drop_in.safe_open(path, framework="np"), drop_in.OpenFile)
        found = drop_in.safe_open(path, framework="pt", backend="pread")
        assert not isinstance(found, drop_in.OpenFile)
        assert torch.equal(found.get_tensor("b"), torch.ones(3))

    def test_load_file(self, path: Path) -> None:
        theirs = safetensors.torch.load_file(path)
        ours = drop_in.load_file(path)
        assert list(ours) == list(theirs)
        assert all(same(ours[name], theirs[name]) for name in theirs)


class TestBatch:
    def test_files_opened_together_are_one_load(
        self, shards: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate(monkeypatch)
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        slices = [file.get_slice(f"layer.{number}") for number, file in enumerate(files)]
        assert not gate.entered.acquire(blocking=False), "nothing is read before it is asked for"
        gate.open()
        assert slices[2][...][0] == 2
        assert {shard for shard, _ in gate.order} <= {0, 1, 2}
        for number, each in enumerate(slices):
            assert torch.equal(each[...], torch.full((3 << 20,), float(number)))
        for file in files:
            file.__exit__(None, None, None)
        assert len(set(gate.order)) == len(gate.order), "nothing is read twice"
        titles = {event.title for event in hub().known() if event.kind == "load"}
        assert shards[0].parent.name in titles

    def test_the_tensor_asked_for_comes_first(
        self, shards: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ZS_LOAD_THREADS", "1")
        monkeypatch.setattr(loader, "POPULATE", 1 << 20)
        gate = Gate(monkeypatch)
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        got: list[torch.Tensor] = []
        last = files[2].get_slice("layer.2")
        asker = threading.Thread(target=lambda: got.append(last[...]))
        asker.start()
        gate.open()
        asker.join(PATIENCE)
        assert got[0][0] == 2
        assert [shard for shard, _ in gate.order].index(2) <= 2

    def test_another_directory_or_the_same_names_are_another_load(
        self, path: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "other").mkdir()
        save_file({"q": torch.ones(1)}, tmp_path / "other" / "x.safetensors")
        save_file({"b": torch.zeros(3)}, tmp_path / "y.safetensors")
        first = drop_in.safe_open(path, framework="pt")
        second = drop_in.safe_open(tmp_path / "other" / "x.safetensors", framework="pt")
        third = drop_in.safe_open(tmp_path / "y.safetensors", framework="pt")
        assert len({first._batch, second._batch, third._batch}) == 3
        assert first.get_tensor("b")[0] == 1
        assert third.get_tensor("b")[0] == 0

    def test_a_part_is_read_without_the_rest(
        self, shards: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gate = Gate(monkeypatch)
        gate.open()
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        assert torch.equal(files[1].get_slice("layer.1")[:10], torch.ones(10))
        assert torch.equal(files[2].get_slice("layer.2")[...], torch.full((3 << 20,), 2.0))
        assert len([start for shard, start in gate.order if start == 0]) == 2
        assert len(gate.order) == 1 + -(-(12 << 20) // (4 << 20)) + 1, "one block, and one tensor"

    def test_a_part_ends_the_reading_ahead(
        self, shards: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ZS_LOAD_THREADS", "1")
        gate = Gate(monkeypatch)
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        got: list[torch.Tensor] = []
        asker = threading.Thread(target=lambda: got.append(files[2].get_tensor("layer.2")))
        asker.start()
        gate.wait_for_reader()
        parter = threading.Thread(target=lambda: got.append(files[0].get_slice("layer.0")[:1]))
        parter.start()
        gate.wait_for_reader()  # the part is read by the thread that asked for it
        gate.open()
        asker.join(PATIENCE)
        parter.join(PATIENCE)
        assert sorted(each.numel() for each in got) == [1, 3 << 20]
        assert files[0]._batch._weights is None

    def test_nothing_is_left_behind(
        self, shards: list[Path], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        gc.collect()
        before = descriptors()
        gate = Gate(monkeypatch)
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        asker = threading.Thread(target=files[0].get_tensor, args=["layer.0"])
        asker.start()
        gate.wait_for_reader()
        eventually(partial(getattr, files[0]._batch, "_weights"))
        weights = files[0]._batch._weights
        assert weights is not None
        gate.open(8)
        asker.join(PATIENCE)
        for file in files:
            file.__exit__(None, None, None)
        gate.open()
        del file, files
        loads = [each for each in threading.enumerate() if each.name == "zerostart-load"]
        for thread in loads:
            thread.join(PATIENCE)
        assert weights.done
        del weights, asker
        assert descriptors() == before

    def test_a_file_cut_short_is_an_error(self, shards: list[Path]) -> None:
        files = [drop_in.safe_open(path, framework="pt") for path in shards]
        os.truncate(shards[1], 1 << 20)
        with pytest.raises(CheckpointChanged):
            files[1].get_tensor("layer.1")
        with pytest.raises(CheckpointChanged):
            files[1].get_slice("layer.1")[-5:]

    def test_a_person_may_cancel(self, shards: list[Path], monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("ZS_LOAD_THREADS", "1")
        monkeypatch.setattr(loader, "POPULATE", 1 << 20)
        gate = Gate(monkeypatch)
        file = drop_in.safe_open(shards[0], framework="pt")
        raised: list[BaseException] = []

        def ask() -> None:
            try:
                file.get_tensor("layer.0")
            except Cancelled as error:
                raised.append(error)

        asker = threading.Thread(target=ask)
        asker.start()
        gate.wait_for_reader()
        running = [
            event.operation
            for event in hub().known()
            if event.title == shards[0].parent.name and event.state is not State.DONE
        ]
        assert any(hub().cancel(operation) for operation in running)
        gate.open()
        asker.join(PATIENCE)
        assert len(raised) == 1


@pytest.mark.parametrize(
    ("folders", "title"),
    [
        (("models--org--name", "snapshots", "0a1b"), "org/name"),
        (("plain",), "plain"),
    ],
)
def test_a_load_is_named_as_its_model(folders: tuple[str, ...], title: str) -> None:
    assert drop_in._title(Path("/cache", *folders)) == title


class TestNetworkFileSystem:
    @pytest.fixture
    def cache(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModelCache:
        monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
        return ModelCache()

    @pytest.fixture
    def files(self, far: Path) -> list[Path]:
        for number in range(2):
            save_file({f"{number}.a": torch.full((40, 50), number)}, far / f"{number}.safetensors")
        return sorted(far.iterdir())

    def read(self, files: list[Path]) -> list[torch.Tensor]:
        opened = [drop_in.safe_open(path, "pt") for path in files]
        return [each.get_tensor(f"{number}.a") for number, each in enumerate(opened)]

    def test_files_are_copied_when_a_tensor_is_wanted_and_not_read_again(
        self, files: list[Path], cache: ModelCache
    ) -> None:
        with drop_in.safe_open(files[0], "pt") as opened:
            assert opened.keys() == ["0.a"]
        assert cache.list_entries() == []
        for _ in range(2):
            found = self.read(files)
            assert [int(tensor.sum()) for tensor in found] == [0, 2000]
            mine = {tensor.data_ptr() for tensor in found}
            origins = {each.reference.path for each in references().live() if each.address in mine}
            assert origins == {entry.path for entry in cache.list_entries()}
        assert len(cache.list_entries()) == 2
        assert torch.equal(drop_in.load_file(files[1])["1.a"], found[1])
        assert len(cache.list_entries()) == 2

    def test_a_part_is_read_from_the_copy(self, files: list[Path], cache: ModelCache) -> None:
        part = drop_in.safe_open(files[1], "pt").get_slice("1.a")[:, 3:9]
        assert torch.equal(part, torch.ones(40, 6, dtype=torch.int64))
        assert [entry.source for entry in cache.list_entries()] == [str(files[1])]

    def test_without_room_they_are_read_where_they_are(
        self, files: list[Path], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ZS_MODEL_CACHE_GB", "0")
        assert [int(tensor.sum()) for tensor in self.read(files)] == [0, 2000]
        assert cache.list_entries() == []

    def test_one_that_was_replaced_since_it_was_opened_is_read_as_it_was(
        self, files: list[Path], cache: ModelCache
    ) -> None:
        opened = drop_in.safe_open(files[1], "pt")
        save_file({"1.a": torch.full((40, 50), 7)}, files[1].with_suffix(".new"))
        files[1].with_suffix(".new").replace(files[1])
        assert int(opened.get_tensor("1.a").sum()) == 2000
        assert int(self.read(files)[1].sum()) == 7 * 2000

    def test_nobody_else_waits_for_who_has_them_open(
        self, files: list[Path], cache: ModelCache
    ) -> None:
        opened = drop_in.safe_open(files[1], "pt")
        opened.get_slice("1.a")[:2]
        weights = load(files[1], device="cpu")
        assert weights.reader == "mmap"
        assert torch.equal(opened.get_tensor("1.a"), weights["1.a"])

    def test_a_copy_is_told_and_can_be_cancelled(
        self, files: list[Path], cache: ModelCache, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def wait(self: FileOrigin, *_: object) -> None:
            assert self._stopped.wait(PATIENCE)
            raise Stopped

        def cancel(events: list[Event]) -> None:
            for event in events:
                if event.title == "1.safetensors, copied":
                    hub().cancel(event.operation)

        monkeypatch.setattr(FileOrigin, "read", wait)
        forget = hub().subscribe(cancel)  # type: ignore[arg-type]
        opened = drop_in.safe_open(files[1], "pt")
        try:
            with pytest.raises(Cancelled):
                opened.get_tensor("1.a")
        finally:
            forget()
        assert cache.list_entries() == []
