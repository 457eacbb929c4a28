"""Artefacts of torch.compile, with a torch that only says that it made some."""

from __future__ import annotations

import importlib.metadata
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from zerostart_jupyter.snapshot.portable import compiled


class Compiler:
    """torch.compiler, as far as artefacts go."""

    def __init__(self, made: object = (b"artefacts", object())) -> None:
        self.made = made
        self.taken: list[bytes] = []
        self.takes = True

    def save_cache_artifacts(self) -> object:
        return self.made

    def load_cache_artifacts(self, data: bytes) -> object:
        self.taken.append(data)
        return object() if self.takes else None


def torch(compiler: object, version: str = "2.13.0", gpu: str | None = None) -> SimpleNamespace:
    cuda = SimpleNamespace(is_available=lambda: gpu is not None, get_device_name=lambda _: gpu)
    cpu = SimpleNamespace(get_cpu_capability=lambda: "AVX2")
    return SimpleNamespace(
        __version__=version, compiler=compiler, cuda=cuda, backends=SimpleNamespace(cpu=cpu)
    )


@pytest.fixture
def compiler(monkeypatch: pytest.MonkeyPatch) -> Compiler:
    """That of a process that has compiled."""
    found = Compiler()
    monkeypatch.setitem(sys.modules, "torch", torch(found))
    monkeypatch.setitem(sys.modules, "torch._inductor", SimpleNamespace())
    return found


def test_what_was_made_here_is_taken_here(compiler: Compiler, tmp_path: Path) -> None:
    fits = compiled.save(tmp_path)
    assert fits is not None
    assert compiled.load((tmp_path / compiled.FILE).read_bytes(), fits) is None
    assert compiler.taken == [b"artefacts"]


@pytest.mark.parametrize("name", ["torch", "triton", "GPU", "processor"])
def test_what_was_made_for_something_else_is_left_alone(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    fits = compiled.save(tmp_path)
    assert fits is not None
    here = fits[name]
    reason = compiled.load(b"artefacts", fits | {name: "another"})
    assert reason == f"they were made for {name} another, here it is {here}"
    assert compiled.load(b"artefacts", {}) == "they were made for torch None, here it is 2.13.0"
    assert compiler.taken == []


def test_a_gpu_and_triton_are_part_of_what_it_fits(
    compiler: Compiler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch(compiler, gpu="NVIDIA H200"))
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "3.5")
    assert (compiled.fitting()["GPU"], compiled.fitting()["triton"]) == ("NVIDIA H200", "3.5")


@pytest.mark.parametrize("made", [None, (b"", object())])
def test_a_process_that_compiled_nothing_saves_nothing(
    compiler: Compiler, tmp_path: Path, made: object
) -> None:
    compiler.made = made
    assert compiled.save(tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_torch_that_knows_no_artefacts_saves_none(
    compiler: Compiler, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "torch", torch(SimpleNamespace()))
    assert compiled.save(tmp_path) is None


def test_without_torch_there_is_nothing_to_save_and_nobody_to_take_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(sys.modules, "torch", raising=False)
    assert compiled.save(tmp_path) is None
    assert compiled.load(b"artefacts", {}) == "torch is not imported"


def test_what_torch_does_not_take_is_told(compiler: Compiler, tmp_path: Path) -> None:
    compiler.takes = False
    fits = compiled.save(tmp_path)
    assert fits is not None
    assert compiled.load(b"artefacts", fits) == "torch did not take them"
