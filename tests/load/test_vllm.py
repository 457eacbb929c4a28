"""The plug-in beside the source of the vLLM it is written against; the engine: tests/vllm."""

from __future__ import annotations

import ast
import builtins
import importlib
import logging
import sys
import tomllib
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.load.files import descriptors
from zerostart_jupyter.load import ModelCache, vllm

ROOT = Path(__file__).parents[2]
SOURCES = ROOT / ".tools" / "vllm-source"
LOADERS = "model_executor/model_loader"

Parsed = Callable[[str], ast.Module]


@pytest.fixture(params=["0.32.0", "0.33.0"])
def parsed(request: pytest.FixtureRequest) -> Parsed:
    """Files of a vLLM's source."""
    source = SOURCES / request.param / "vllm"
    assert source.is_dir(), "run: .venv/bin/python tools/set_up_vllm.py"
    return lambda path: ast.parse((source / path).read_text())


def definition(tree: ast.AST, name: str) -> Any:
    found = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name == name
    ]
    assert found, f"vLLM has no {name} any more"
    return found[0]


def parameters(tree: ast.AST, name: str) -> list[str]:
    arguments = definition(tree, name).args
    return [each.arg for each in (*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs)]


@pytest.fixture
def loader(parsed: Parsed) -> Any:
    return definition(parsed(f"{LOADERS}/default_loader.py"), "DefaultModelLoader")


def test_everything_we_import_is_there(parsed: Parsed) -> None:
    ours = ast.parse((ROOT / "zerostart_jupyter/load/vllm_loader.py").read_text())
    imports = [node for node in ast.walk(ours) if isinstance(node, ast.ImportFrom)]
    theirs = [node for node in imports if (node.module or "").startswith("vllm.")]
    assert len(theirs) == 4
    for node in theirs:
        path = (node.module or "").removeprefix("vllm.").replace(".", "/") + ".py"
        for alias in node.names:
            definition(parsed(path), alias.name)


def test_what_we_override_and_call_takes_what_we_give(loader: Any, parsed: Parsed) -> None:
    assert parameters(loader, "_get_weights_iterator") == ["self", "source"]
    assert parameters(loader, "_prepare_weights") == [
        *("self", "model_name_or_path", "subfolder", "revision"),
        *("fall_back_to_pt", "allow_patterns_overrides"),
    ]
    fields = [
        node.target.id
        for node in definition(loader, "Source").body
        if isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name)
    ]
    assert fields == [
        *("model_or_path", "revision", "subfolder", "prefix"),
        *("fall_back_to_pt", "allow_patterns_overrides", "is_unused_weight"),
    ]
    filters = parsed(f"{LOADERS}/weight_utils.py")
    assert parameters(filters, "filter_mm_encoder_only_safetensors_files")[:4] == [
        *("hf_weights_files", "hf_folder", "index_file", "language_model_prefixes"),
    ]
    assert "weights_mapper" in parameters(filters, "filter_mm_encoder_only_safetensors_files")
    assert len(parameters(filters, "filter_safetensors_files_by_weight_name")) == 2
    skipping = parameters(parsed(f"{LOADERS}/ep_weight_filter.py"), "should_skip_weight")
    assert skipping == ["weight_name", "local_expert_ids"]


def test_we_apply_every_filter_that_it_applies(loader: Any) -> None:
    """A filter that a newer vLLM adds to its own iterator is to be added to ours."""
    theirs = definition(loader, "_get_weights_iterator")
    called = {
        node.func.id
        for node in ast.walk(theirs)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert {name for name in called if name.startswith("filter_")} == {
        "filter_mm_encoder_only_safetensors_files",
        "filter_safetensors_files_by_weight_name",
    }
    read = {
        node.attr
        for node in ast.walk(theirs)
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    }
    ours = (ROOT / "zerostart_jupyter/load/vllm_loader.py").read_text()
    optional = {"DEFAULT_NUM_THREADS"}  # of its own ways to read
    assert [name for name in sorted(read - optional) if f"self.{name}" not in ours] == []


def test_the_entry_point_names_a_function_of_vllms_group(parsed: Parsed) -> None:
    group = [
        node.value.value
        for node in ast.walk(parsed("plugins/__init__.py"))
        if isinstance(node, ast.Assign)
        and isinstance(node.targets[0], ast.Name)
        and node.targets[0].id == "DEFAULT_PLUGINS_GROUP"
        and isinstance(node.value, ast.Constant)
    ]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"][group[0]]["zerostart"].partition(":")
    assert getattr(importlib.import_module(module), name) is vllm.register


def test_a_vllm_that_does_not_fit_is_warned_of_and_goes_on(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    genuine = builtins.__import__

    def without(name: str, *rest: Any, **more: Any) -> ModuleType:
        if name.partition(".")[0] == "vllm":
            raise ImportError("cannot import name 'register_model_loader'")
        return genuine(name, *rest, **more)

    monkeypatch.setattr(builtins, "__import__", without)
    with caplog.at_level(logging.WARNING):
        vllm.register()
    assert "this version does not fit (cannot import name 'register_model_loader')" in caplog.text
    assert not vllm._registered


@pytest.fixture
def plugin(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Our loader over stand-ins for the names that it imports from vLLM."""
    names = {
        "config.load": {"LoadConfig": object},
        "model_executor.model_loader.default_loader": {"DefaultModelLoader": Stand},
        "model_executor.model_loader.ep_weight_filter": {"should_skip_weight": skipped},
        "model_executor.model_loader.weight_utils": {
            "filter_mm_encoder_only_safetensors_files": None,
            "filter_safetensors_files_by_weight_name": None,
        },
    }
    for name, attributes in names.items():
        module = ModuleType(f"vllm.{name}")
        vars(module).update(attributes)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    monkeypatch.delitem(sys.modules, "zerostart_jupyter.load.vllm_loader", raising=False)
    found = importlib.import_module("zerostart_jupyter.load.vllm_loader")
    monkeypatch.delitem(sys.modules, found.__name__)
    made = found.ZerostartModelLoader.__new__(found.ZerostartModelLoader)
    made._reader, made.local_expert_ids = "auto", None
    return made


def skipped(name: str, experts: set[int] | None) -> bool:
    return bool(experts and experts - {0}) and name.startswith("expert.")


class Stand:
    class Source:
        model_or_path, prefix = "org/tiny", "model."


def test_files_of_a_network_file_system_are_copied_near_once(
    plugin: Any, far: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    save_file({"a": torch.ones(5), "expert.0": torch.zeros(3)}, far / "a.safetensors")
    for _ in range(2):
        found = dict(plugin._read(Stand.Source, [str(far / "a.safetensors")]))
        assert {name: tensor.tolist() for name, tensor in found.items()} == {
            "model.a": [1] * 5,
            "model.expert.0": [0] * 3,
        }
    (copy,) = ModelCache().list_entries()  # the second time waited for the first to be whole
    assert copy.source == str(far / "a.safetensors")
    plugin.local_expert_ids = {1}
    assert [name for name, _ in plugin._read(Stand.Source, [str(copy.path)])] == ["model.a"]


def test_a_filter_that_fails_leaves_nothing_open(plugin: Any, tmp_path: Path) -> None:
    save_file({"a": torch.ones(5)}, tmp_path / "a.safetensors")
    plugin.local_expert_ids = "no experts"
    before = descriptors()
    with pytest.raises(TypeError):
        next(plugin._read(Stand.Source, [str(tmp_path / "a.safetensors")]))
    assert descriptors() == before


def test_a_model_that_wants_no_more_ends_the_reading(plugin: Any, tmp_path: Path) -> None:
    save_file({"a": torch.ones(5), "b": torch.ones(5)}, tmp_path / "a.safetensors")
    given = plugin._read(Stand.Source, [str(tmp_path / "a.safetensors")])
    assert next(given)[0] == "model.a"
    given.close()
    with pytest.raises(StopIteration):
        next(given)
