"""torch's own files, converted once: what is taken, refused, kept and found again."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import load_file
from torch import nn

from tests.load.faults.build import Faulty
from tests.load.files import descriptors, every_dtype
from tests.patience import PATIENCE
from tests.servers.hub import Hub
from zerostart_jupyter.core import events
from zerostart_jupyter.core.errors import (
    Cancelled,
    CheckpointChanged,
    CheckpointInvalid,
    CheckpointNotFound,
    LoadError,
)
from zerostart_jupyter.core.events import Event, State
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import ModelCache, filesystem, load, load_into, pickled
from zerostart_jupyter.load.locate import locate

TITLE = "pytorch_model.bin, downloaded"


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    return Settings.read()


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    if one.dtype != other.dtype or one.shape != other.shape:
        return False
    bits = [each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    return torch.equal(*bits)


class Evil:
    """Runs a command when it is unpickled by anything but the weights-only loader."""

    def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
        return os.mkdir, ("evil-was-here",)


class TestFormats:
    def test_every_type_comes_as_torch_itself_loads_it(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        path = tmp_path / "m" / "pytorch_model.bin"
        path.parent.mkdir()
        torch.save(every_dtype(), path)
        before = descriptors()
        expected = torch.load(path, weights_only=True)
        weights = load(path.parent, device="cpu", settings=settings)
        assert set(weights) == set(expected)
        assert all(same(weights[each], expected[each]) for each in expected)
        assert descriptors() == before

    def test_is_converted_once_for_what_the_file_is(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        path = tmp_path / "a.pt"
        torch.save({"a": torch.ones(3)}, path)
        load(path, device="cpu", settings=settings)
        (entry,) = ModelCache(settings=settings).list_entries()
        assert (entry.kind, entry.source) == ("conversion", str(path))
        inode = entry.path.stat().st_ino
        load(path, device="cpu", settings=settings)
        assert entry.path.stat().st_ino == inode
        torch.save({"a": torch.zeros(3)}, path)
        os.utime(path, ns=(1, 1))
        assert load(path, device="cpu", settings=settings)["a"].tolist() == [0, 0, 0]

    def test_files_of_before_the_zip_format(self, tmp_path: Path, settings: Settings) -> None:
        path = tmp_path / "old.pt"
        torch.save({"a": torch.arange(5)}, path, _use_new_zipfile_serialization=False)
        assert load(path, device="cpu", settings=settings)["a"].tolist() == [0, 1, 2, 3, 4]

    @pytest.mark.parametrize("key", pickled.NESTS)
    def test_a_checkpoint_of_a_training_gives_its_weights(self, tmp_path: Path, key: str) -> None:
        path = tmp_path / "epoch=3.ckpt"
        torch.save({"epoch": 3, key: {"a": torch.ones(2)}, "lr": [0.1]}, path)
        assert pickled.convert(path, tmp_path / "out") == {}
        assert list(load_file(tmp_path / "out")) == ["a"]

    def test_parameters_views_and_parts_of_one_storage(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        base = torch.arange(24.0).reshape(4, 6)
        made = {
            "parameter": nn.Parameter(base.clone()),
            "whole": base,
            "row": base[1],
            "transposed": base.t(),
            "steps": base[:, ::2],
            "expanded": torch.ones(1, 3).expand(4, 3),
            "conjugate": torch.tensor([1 + 2j], dtype=torch.complex64).conj(),
            "empty": torch.empty(0, 3),
            "empty.2": torch.empty(0, 3),
        }
        torch.save(made, tmp_path / "a.pt")
        weights = load(tmp_path / "a.pt", device="cpu", settings=settings)
        assert set(weights) == set(made)
        for name, tensor in made.items():
            assert same(weights[name], tensor.resolve_conj()), name

    def test_the_file_is_one_that_safetensors_reads(
        self, tmp_path: Path, settings: Settings
    ) -> None:
        torch.save(every_dtype(), tmp_path / "a.pt")
        located = locate(tmp_path / "a.pt", settings)
        with safe_open(located.files[0], "pt") as file:
            assert set(file.keys()) == set(every_dtype())
            for name, tensor in every_dtype().items():
                assert same(file.get_tensor(name), tensor), name
        located.close()


class TestTied:
    class Tied(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.embedding = nn.Embedding(100, 16)
            self.head = nn.Linear(16, 100, bias=False)
            self.head.weight = self.embedding.weight

    @pytest.mark.parametrize("reader", ["mmap", "direct"])
    def test_both_names_come_and_the_bytes_are_kept_once(
        self, tmp_path: Path, settings: Settings, reader: str
    ) -> None:
        model = self.Tied()
        torch.save(model.state_dict(), tmp_path / "a.bin")
        weights = load(tmp_path / "a.bin", device="cpu", reader=reader, settings=settings)
        assert set(weights) == {"embedding.weight", "head.weight"}
        for name in weights:
            assert same(weights[name], model.embedding.weight)
        assert weights.files[0].stat().st_size < 2 * model.embedding.weight.nbytes
        with torch.device("meta"):
            other = self.Tied()
        load_into(other, tmp_path / "a.bin", device="cpu", settings=settings)
        assert other.head.weight is other.embedding.weight
        assert same(other.head.weight, model.head.weight)

    @pytest.mark.parametrize("reader", ["mmap", "direct"])
    def test_of_one_a_part_and_of_the_other_all(
        self, tmp_path: Path, settings: Settings, reader: str
    ) -> None:
        shared = torch.randn(3000, 1000)
        torch.save({"a": shared, "b": shared}, tmp_path / "a.bin")
        weights = load(
            tmp_path / "a.bin",
            device="cpu",
            reader=reader,
            slices={"b": slice(20, 30)},
            settings=settings,
        )
        assert same(weights["a"], shared)
        assert same(weights["b"], shared[20:30])

    def test_an_index_promises_both(self, tmp_path: Path, settings: Settings) -> None:
        shared = torch.ones(4)
        torch.save({"a": shared, "b": shared}, tmp_path / "pytorch_model-00001-of-00002.bin")
        torch.save({"c": torch.zeros(2)}, tmp_path / "pytorch_model-00002-of-00002.bin")
        homes = {
            "a": "pytorch_model-00001-of-00002.bin",
            "b": "pytorch_model-00001-of-00002.bin",
            "c": "pytorch_model-00002-of-00002.bin",
        }
        torch.save({}, tmp_path / "training_args.bin")
        unindexed = load(tmp_path, device="cpu", settings=settings)
        assert set(unindexed) == {"a", "b", "c"}
        index = tmp_path / "pytorch_model.bin.index.json"
        index.write_text(json.dumps({"weight_map": homes}))
        weights = load(tmp_path, device="cpu", settings=settings)
        assert {name: tensor.tolist() for name, tensor in weights.items()} == {
            "a": [1, 1, 1, 1],
            "b": [1, 1, 1, 1],
            "c": [0, 0],
        }


class TestRefused:
    def refuse(self, path: Path, settings: Settings, words: str) -> None:
        before = descriptors()
        with pytest.raises(CheckpointInvalid, match=words) as raised:
            load(path, device="cpu", settings=settings)
        assert "\n" not in str(raised.value)
        assert ModelCache(settings=settings).list_entries() == []
        assert descriptors() == before

    def test_code_is_not_run(
        self, tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        torch.save({"a": torch.ones(1), "b": Evil()}, tmp_path / "a.pt")
        self.refuse(tmp_path / "a.pt", settings, r"holds code that would run.*If you trust")
        assert not (tmp_path / "evil-was-here").exists()

    @pytest.mark.parametrize(
        ("body", "words"),
        [
            ({"a": torch.ones(1), "b": 3}, r"beside tensors it holds 'b', a int"),
            ({1: torch.ones(1)}, r"a name that is 1"),
            (torch.ones(1), r"holds a Tensor, not tensors by name"),
            ({"a": torch.ones(2, 2).to_sparse()}, r"tensor 'a' is sparse"),
            ({"a": torch.ones(1, dtype=torch.complex128)}, r"'a' is torch.complex128"),
        ],
    )
    def test_what_safetensors_cannot_hold(self, tmp_path: Path, body: Any, words: str) -> None:
        torch.save(body, tmp_path / "a.pt")
        with pytest.raises(pickled.Unfit, match=words):
            pickled.convert(tmp_path / "a.pt", tmp_path / "out")

    @pytest.mark.parametrize("share", [0.0, 0.1, 0.3, 0.6, 0.9, 0.99])
    def test_a_truncated_file(self, tmp_path: Path, share: float) -> None:
        path = tmp_path / "a.pt"
        torch.save({"a": torch.ones(1000)}, path)
        os.truncate(path, int(path.stat().st_size * share))
        with pytest.raises(pickled.Unfit, match="it cannot be read"):
            pickled.convert(path, tmp_path / "out")

    def test_is_told_with_its_remedy(self, tmp_path: Path, settings: Settings) -> None:
        (tmp_path / "a.pt").write_bytes(b"junk")
        self.refuse(tmp_path / "a.pt", settings, r"it cannot be read.*Download or save it again")

    def test_no_room(self, tmp_path: Path, settings: Settings) -> None:
        torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
        with pytest.raises(LoadError, match=r"no room to convert .*ZS_MODEL_CACHE_GB"):
            load(tmp_path / "a.pt", settings=replace(settings, model_cache_gb=0.0))


def test_a_cancel_ends_the_conversion_and_leaves_nothing(
    tmp_path: Path, settings: Settings
) -> None:
    torch.save({"a": torch.ones(1000)}, tmp_path / "a.pt")
    began = threading.Event()

    def listen(batch: Any) -> None:
        for event in batch:
            if event.title == "a.pt as safetensors" and not event.state.final:
                events.hub().cancel(event.operation)
                began.set()

    forget = events.hub().subscribe(listen)
    try:
        with pytest.raises(Cancelled):
            load(tmp_path / "a.pt", device="cpu", settings=settings)
    finally:
        forget()
    assert began.is_set()
    assert ModelCache(settings=settings).list_entries() == []
    assert load(tmp_path / "a.pt", device="cpu", settings=settings)["a"].sum() == 1000


def test_a_file_cut_while_it_is_converted_is_an_error_and_no_signal(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerostart_jupyter.load import conversion

    path = tmp_path / "a.pt"
    torch.save({"a": torch.ones(1 << 20)}, path)
    script = tmp_path / "cut.py"
    # The very converter, in its process, on a file that ends while it is mapped.
    script.write_text(
        "import os, sys\n"
        "from zerostart_jupyter.load import pickled\n"
        "load = pickled._load\n"
        "def cut(source):\n"
        "    found = load(source)\n"
        "    os.truncate(source, 4096)\n"
        "    return found\n"
        "pickled._load = cut\n"
        "pickled.main(*sys.argv[1:])\n"
    )
    real = conversion.subprocess.Popen

    def start(command: list[str], **options: Any) -> Any:
        return real([command[0], str(script), *command[3:]], **options)

    monkeypatch.setattr(conversion.subprocess, "Popen", start)
    with pytest.raises(CheckpointChanged, match="changed while it was being read"):
        load(path, device="cpu", settings=settings)
    assert ModelCache(settings=settings).list_entries() == []


@pytest.mark.parametrize("network", [False, True])
def test_a_file_on_a_network_file_system_is_not_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, network: bool
) -> None:
    path = tmp_path / "a.pt"
    torch.save({"a": torch.arange(1000.0)}, path)
    here = filesystem.of_path(path)
    monkeypatch.setattr(filesystem, "of_path", lambda path: replace(here, network=network))
    maps: list[str] = []

    def look(found: Any) -> Any:
        maps.append(Path("/proc/self/maps").read_text())
        return found

    monkeypatch.setattr(pickled, "_state_dict", look)
    assert pickled.convert(path, tmp_path / "a.safetensors") == {}
    assert (str(path) in maps[0]) is not network
    assert same(load_file(tmp_path / "a.safetensors")["a"], torch.arange(1000.0))


def test_a_model_of_the_hub_that_has_only_these(
    tmp_path: Path, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    path = tmp_path / "served.bin"
    torch.save({"a": torch.arange(1000)}, path)
    with Hub({"pytorch_model.bin": path.read_bytes(), "config.json": b"{}"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        before = set(os.listdir(tmp_path))
        for source in ("org/tiny", hub.address("pytorch_model.bin")):
            weights = load(source, device="cpu", settings=settings)
            assert torch.equal(weights["a"], torch.arange(1000))
        assert before <= set(os.listdir(tmp_path))
        hub.files = {"model.gguf": b"GGUF", "README.md": b""}
        with pytest.raises((CheckpointInvalid, CheckpointNotFound), match=r"gguf"):
            load(f"{hub.url}/org/tiny/resolve/main/model.gguf", device="cpu", settings=settings)


class TestDownload:
    """A file that must be here as a whole before a tensor can be."""

    @pytest.fixture
    def hub(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[tuple[Hub, list[Event]]]:
        monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
        monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
        torch.save({"a": torch.arange(5 << 20)}, tmp_path / "served.bin")
        told: list[Event] = []
        remove = events.hub().subscribe(told.extend)
        with Hub({"pytorch_model.bin": (tmp_path / "served.bin").read_bytes()}) as served:
            monkeypatch.setenv("HF_ENDPOINT", served.url)
            yield served, told
        remove()

    def test_is_told(self, hub: tuple[Hub, list[Event]], settings: Settings) -> None:
        served, told = hub
        weights = load("org/tiny", device="cpu", settings=settings)
        assert torch.equal(weights["a"], torch.arange(5 << 20))
        events.hub().flush()
        seen = [each for each in told if each.title == TITLE]
        last = {each.item: each for each in seen}
        size = len(served.files["pytorch_model.bin"])
        assert (last["pytorch_model.bin"].done, last["pytorch_model.bin"].total) == (size, size)
        assert last[""].state is State.DONE
        assert last[""].done == size

    def test_is_cancelled_and_gone_on_with(
        self, hub: tuple[Hub, list[Event]], settings: Settings
    ) -> None:
        served, _ = hub
        size = len(served.files["pytorch_model.bin"])
        served.behaviour.hold = threading.Event()
        served.behaviour.hold_from = 24 << 20
        failed: list[BaseException] = []

        def bring() -> None:
            try:
                load("org/tiny", device="cpu", settings=settings)
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=bring)
        thread.start()
        assert served.reached.acquire(timeout=PATIENCE)
        known = {each.operation for each in events.hub().known() if each.title == TITLE}
        # One of them: others were over before.
        assert [events.hub().cancel(each) for each in known].count(True) == 1
        thread.join(PATIENCE)
        served.behaviour.hold.set()
        served.behaviour.hold = None
        assert isinstance(failed[0], Cancelled)
        before = served.sent
        assert torch.equal(
            load("org/tiny", device="cpu", settings=settings)["a"], torch.arange(5 << 20)
        )
        assert 0 < served.sent - before < size


@pytest.mark.compiler
def test_a_disk_that_is_full(tmp_path: Path, faulty: Faulty) -> None:
    """write(2) has no offset to fail at; a limit on the size of files says the same."""
    torch.save({"a": torch.ones(1 << 20)}, tmp_path / "a.pt")
    out = faulty.run(
        "import resource, signal, sys\n"
        "from zerostart_jupyter.load import load\n"
        "from zerostart_jupyter.core.errors import LoadError\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, 1 << 20))\n"
        "try:\n"
        "    load(sys.argv[1], device='cpu')\n"
        "except LoadError as error:\n"
        "    print(error)\n",
        tmp_path / "a.pt",
        below=tmp_path,
        fault="",
    )
    assert "could not be converted: File too large. Make room" in out
