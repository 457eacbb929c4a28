from __future__ import annotations

import sys
import sysconfig
from dataclasses import fields
from pathlib import Path

import pytest
import torch
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell
from safetensors.torch import save_file
from torch import nn

from zerostart_jupyter.core.settings import Settings, table
from zerostart_jupyter.jupyter.magics import _parse, unquote


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("'numpy>=2'", "numpy>=2"),
        ('"a b"', "a b"),
        ("plain", "plain"),
        ("'", "'"),
        ("'a\"", "'a\""),
    ],
)
def test_quotes_are_taken_off(written: str, meant: str) -> None:
    assert unquote(written) == meant


def test_install_arguments(shell: InteractiveShell) -> None:
    magic = shell.find_line_magic("zs_install")
    args = _parse(magic, "torch 'transformers>=5' -r a.txt -r b.txt --wait")
    assert args.requirements == ["torch", "transformers>=5"]
    assert args.requirement == ["a.txt", "b.txt"]
    assert args.wait
    assert not args.offline


@pytest.mark.parametrize("line", ["", "save", "frobnicate x", "rename one", "list extra"])
def test_a_wrong_action_is_a_usage_error(shell: InteractiveShell, line: str) -> None:
    with pytest.raises(UsageError):
        shell.run_line_magic("zs_snapshot", line)


@pytest.mark.parametrize("name", ["zs_install", "zs_load", "zs_snapshot"])
def test_help_has_every_option_and_an_example(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    shell.run_cell(f"%{name}?")
    said = capsys.readouterr().out
    assert f"Example: `%{name} " in said
    for action in shell.find_line_magic(name).parser._actions:
        assert all(option in said for option in action.option_strings)
        assert action.help


@pytest.mark.parametrize(
    "line",
    [
        "%zs_install --frobnicate",
        "%zs_install -r nothing.txt",
        "%zs_install 'no requirement!'",
        "%zs_load",
        "%zs_load nothing.safetensors",
        "%zs_load x --reader nothing",
        "%zs_load x --dtype nothing",
        "%zs_load x --device nothing",
        "%zs_snapshot",
        "%zs_snapshot frobnicate",
        "%zs_snapshot save 'one",
        "%zs_snapshot save one --from-undo many",
        "%zs_snapshot restore nothing",
        "%zs_snapshot publish nothing",
        "%zs_snapshot import nothing.zsnap",
    ],
)
def test_what_cannot_be_is_one_line(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    result = shell.run_cell(line)
    assert result.error_in_exec is not None
    said = "".join(capsys.readouterr())
    name = type(result.error_in_exec).__name__
    assert "Traceback" not in said
    assert said[said.index(f"{name}: ") :].count("\n") == 1


def test_an_unknown_snapshot_fails_with_one_line(shell: InteractiveShell) -> None:
    result = shell.run_cell("%zs_snapshot delete nothing")
    assert result.error_in_exec is not None
    lines = result.error_in_exec._render_traceback_()
    assert len(lines) == 1
    assert "nothing" in lines[0]


def test_the_empty_list_teaches(shell: InteractiveShell) -> None:
    found = shell.run_cell("%zs_snapshot list").result
    assert "%zs_snapshot save NAME" in repr(found)


def test_doctor_prints_a_table(shell: InteractiveShell) -> None:
    found = repr(shell.run_cell("%zs_snapshot doctor").result)
    assert "✓ python" in found
    assert "cache" in found


def test_config_shows_every_setting_with_its_words(
    shell: InteractiveShell, capsys: pytest.CaptureFixture[str]
) -> None:
    shell.run_line_magic("config", "Zerostart")
    said = " ".join(capsys.readouterr().out.split())
    for field, (env, default, doc) in zip(fields(Settings), table(), strict=True):
        words = f"Zerostart.{field.name}=<Setting> {doc} Environment: {env}."
        assert words + (f" Default: {default}." if default else "") in said


def test_config_reaches_the_engines(shell: InteractiveShell, tmp_path: Path) -> None:
    shell.run_line_magic("config", f"Zerostart.cache = {str(tmp_path / 'elsewhere')!r}")
    shell.run_cell("%zs_snapshot list")
    assert (tmp_path / "elsewhere" / "snapshots").is_dir()


def test_a_bad_setting_names_its_variable(shell: InteractiveShell) -> None:
    shell.run_line_magic("config", "Zerostart.parallel_downloads = 0")
    error = shell.run_cell("%zs_snapshot list").error_in_exec
    assert "ZS_PARALLEL_DOWNLOADS" in str(error)


def test_unload_leaves_nothing(shell: InteractiveShell) -> None:
    matchers = len(shell.Completer.custom_matchers)
    shell.run_line_magic("unload_ext", "zerostart")
    assert shell.find_line_magic("zs_install") is None
    assert len(shell.Completer.custom_matchers) == matchers - 1
    assert not [each for each in shell.configurables if type(each).__name__ == "Zerostart"]
    shell.run_line_magic("load_ext", "zerostart")  # and it can come back
    assert shell.find_line_magic("zs_install") is not None


def test_into_kernel_is_refused_where_the_system_rules(
    shell: InteractiveShell, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    paths = {name: str(tmp_path / name) for name in sysconfig.get_paths()}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    (tmp_path / "stdlib").mkdir()
    (tmp_path / "stdlib" / "EXTERNALLY-MANAGED").touch()
    error = shell.run_cell("%zs_install anything --into-kernel").error_in_exec
    assert type(error).__name__ == "EnvironmentRefused"


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """A checkpoint for a Linear of two features: all ones."""
    path = tmp_path / "linear.safetensors"
    save_file({"weight": torch.ones(2, 2), "bias": torch.ones(2)}, path)
    return path


@pytest.mark.parametrize("into", ["linear", "model.encoder", "model.layers.0"])
def test_into_a_module_fills_it(shell: InteractiveShell, weights: Path, into: str) -> None:
    model = nn.Module()
    model.encoder = nn.Linear(2, 2)
    model.layers = nn.Sequential(nn.Linear(2, 2))
    names = {"linear": nn.Linear(2, 2), "model": model}
    shell.user_ns.update(names)
    shell.run_cell(f"%zs_load {weights} --into {into}").raise_error()
    name, _, path = into.partition(".")
    assert shell.user_ns[name] is names[name]
    assert into == name or into not in shell.user_ns
    assert torch.equal(names[name].get_submodule(path).weight, torch.ones(2, 2))


def test_into_a_new_name_gives_the_tensors_and_may_be_run_again(
    shell: InteractiveShell, weights: Path
) -> None:
    for _ in range(2):
        shell.run_cell(f"%zs_load {weights} --into w").raise_error()
        assert sorted(shell.user_ns["w"]) == ["bias", "weight"]


@pytest.mark.parametrize(
    ("into", "says"),
    [
        ("table", "it is a dict and no torch module"),
        ("nothing", "it is a NoneType and no torch module"),
        ("Linear", "it is a type and no torch module"),
        ("optimizer", "it is a SGD and no torch module"),
        ("table.keys", "and no torch module"),
        ("table.encoder", "there is no such module"),
        ("unknown.encoder", "there is no such module"),
        ("models[0]", "there is no such module"),
        ("class", "there is no such module"),
    ],
)
def test_into_writes_over_nothing(
    shell: InteractiveShell,
    weights: Path,
    capsys: pytest.CaptureFixture[str],
    into: str,
    says: str,
) -> None:
    optimizer = torch.optim.SGD(nn.Linear(2, 2).parameters())
    names = {"table": {}, "nothing": None, "Linear": nn.Linear, "optimizer": optimizer}
    shell.user_ns.update(names)
    error = shell.run_cell(f"%zs_load {weights} --into {into}").error_in_exec
    assert isinstance(error, UsageError)
    assert says in str(error)
    assert "Traceback" not in "".join(capsys.readouterr())
    assert {name: shell.user_ns[name] for name in names} == names
    assert "." not in "".join(shell.user_ns)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("list --park", "--park goes with save"),
        ("park now", "expected one of"),
        ("park", "not a Jupyter kernel"),
        ("wake", "not a Jupyter kernel"),
        ("save one --park", "not a Jupyter kernel"),
    ],
)
def test_parking_where_it_makes_no_sense(shell: InteractiveShell, line: str, says: str) -> None:
    assert says in str(shell.run_cell(f"%zs_snapshot {line}").error_in_exec)
