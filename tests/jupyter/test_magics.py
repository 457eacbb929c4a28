from __future__ import annotations

import sys
import sysconfig
from pathlib import Path

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

from zerostart_jupyter.jupyter.magics import _parse, _unquote


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
    assert _unquote(written) == meant


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


def test_help_has_an_example_for_every_magic(shell: InteractiveShell) -> None:
    for name in ("zs_install", "zs_load", "zs_snapshot"):
        assert f"Example: `%{name} " in shell.find_line_magic(name).__doc__


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
