"""A real engine: the same tokens as from vLLM's own loader. Run by `make test-vllm`."""

from __future__ import annotations

import json
import os
import subprocess
import tomllib
from pathlib import Path

import pytest
import torch
import transformers
from safetensors.torch import save_file

pytestmark = [pytest.mark.vllm, pytest.mark.timeout(1200)]

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".tools" / "vllm" / "bin" / "python"

_GENERATE = """
import json, sys
from vllm import LLM, SamplingParams, TokensPrompt

if __name__ == "__main__":
    llm = LLM(
        model=sys.argv[1],
        load_format=sys.argv[2],
        model_loader_extra_config=json.loads(sys.argv[3]),
        skip_tokenizer_init=True,
        enforce_eager=True,
        dtype="float32",
        max_model_len=64,
    )
    prompts = [TokensPrompt(prompt_token_ids=[1, 5, 9, 33]), TokensPrompt(prompt_token_ids=[7])]
    how = SamplingParams(temperature=0, max_tokens=12, detokenize=False, logprobs=1)
    answers = llm.generate(prompts, how)
    found = [list(each.outputs[0].token_ids) for each in answers]
    sums = [each.outputs[0].cumulative_logprob for each in answers]
    print("ANSWER", json.dumps([found, sums]))
"""

_INTERFACE = """
import inspect, json
from vllm.config.load import LoadConfig
from vllm.model_executor.model_loader import get_model_loader
from vllm.plugins import load_general_plugins

load_general_plugins()
from zerostart_jupyter.load import vllm as plugin

plugin.register()
given = LoadConfig(load_format="zerostart", model_loader_extra_config={"reader": "direct"})
loader = get_model_loader(given)
assert type(loader).__name__ == "ZerostartModelLoader"
assert loader.load_config.load_format == "safetensors"
assert loader.load_config.model_loader_extra_config == {}
assert (given.load_format, given.model_loader_extra_config) == ("zerostart", {"reader": "direct"})
try:
    get_model_loader(LoadConfig(load_format="zerostart", model_loader_extra_config={"typo": 1}))
except ValueError as error:
    print("ANSWER", json.dumps(str(error)))

import sys, torch
from safetensors.torch import load_file
whole = load_file(sys.argv[1]) | load_file(sys.argv[2] + "/second.safetensors")
Source = type(loader).Source
plain = dict(loader._get_weights_iterator(Source(sys.argv[2], None, prefix="a.")))
assert set(plain) == {"a." + name for name in whole}
assert all(torch.equal(plain["a." + name], whole[name]) for name in whole)
loader.local_expert_ids = {0, 2}
some = {name for name, _ in loader._get_weights_iterator(Source(sys.argv[2], None))}
left_out = set(whole) - some
assert left_out and all(".experts.1." in name or ".experts.3." in name for name in left_out)
loader.local_expert_ids = None
unused = Source(sys.argv[2], None, is_unused_weight=lambda name: "other" in name)
names = {name for name, _ in loader._get_weights_iterator(unused)}
assert names == {name for name in whole if "other" not in name}, "a file of unused weights alone"
"""


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What an installation would put there: the entry points that pyproject.toml declares."""
    assert PYTHON.exists(), "run: make test-vllm"
    folder = tmp_path_factory.mktemp("installed")
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    about = folder / "zerostart_jupyter-0.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: zerostart-jupyter\nVersion: 0\n")
    lines = []
    for group, points in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in points.items())]
    (about / "entry_points.txt").write_text("\n".join(lines))
    return folder


def run(installed: Path, code: str, *words: str | Path) -> object:
    variables = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(map(str, (installed, ROOT))),
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        "HF_HUB_OFFLINE": "1",
    }
    script = installed / "script.py"
    script.write_text(code)
    ran = subprocess.run(
        [PYTHON, script, *words],
        capture_output=True,
        text=True,
        check=False,
        timeout=1000,
        env=variables,
        cwd=installed,
    )
    assert ran.returncode == 0, ran.stdout[-3000:] + ran.stderr[-6000:]
    (answer,) = [line for line in ran.stdout.splitlines() if line.startswith("ANSWER ")]
    return json.loads(answer.removeprefix("ANSWER "))


def saved(model: transformers.PreTrainedModel, folder: Path) -> Path:
    model.save_pretrained(folder, max_shard_size="200KB")
    return folder


SHAPE = {
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": 500,
    "max_position_embeddings": 64,
}


def test_the_same_tokens_as_safetensors(installed: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**SHAPE))
    saved(model, tmp_path)
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    theirs = run(installed, _GENERATE, tmp_path, "safetensors", "{}")
    ours = run(installed, _GENERATE, tmp_path, "zerostart", json.dumps({"reader": "mmap"}))
    assert ours == theirs


def test_interface_and_filters(installed: Path, tmp_path: Path) -> None:
    tensors = {
        f"layers.0.mlp.experts.{number}.up.weight": torch.full((3,), float(number))
        for number in range(4)
    }
    tensors["norm.weight"] = torch.ones(3)
    save_file(tensors, tmp_path / "first.safetensors")
    save_file({"other.weight": torch.ones(2)}, tmp_path / "second.safetensors")
    error = run(installed, _INTERFACE, tmp_path / "first.safetensors", tmp_path)
    assert "typo" in str(error)
