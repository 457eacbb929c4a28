from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from zerostart_jupyter.cli import main as frame
from zerostart_jupyter.cli.commands import COMMANDS
from zerostart_jupyter.core.errors import ResolveError

ROOT = Path(__file__).parents[2]


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """`zerostart doctor`, with a body the test gives it."""
    made = ModuleType("doctor")
    made.HELP = "help"  # type: ignore[attr-defined]
    made.add_arguments = lambda parser: None  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "zerostart_jupyter.cli.doctor", made)
    return made


def test_an_error_is_one_line_on_stderr(
    command: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(args: argparse.Namespace) -> int:
        raise ResolveError("There is no torhc.", remedy="Did you mean torch?")

    command.run = run  # type: ignore[attr-defined]
    assert frame.main(["doctor"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err == "zerostart doctor: There is no torhc. Did you mean torch?\n"


def test_an_interrupt_has_its_own_code(command: ModuleType) -> None:
    def run(args: argparse.Namespace) -> int:
        raise KeyboardInterrupt

    command.run = run  # type: ignore[attr-defined]
    assert frame.main(["doctor"]) == 130


@pytest.mark.parametrize("words", [[], ["frobnicate"], ["doctor", "--no-such"]])
def test_usage_errors_exit_with_2(words: list[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        frame.main(words)
    assert stop.value.code == 2


def test_doctor_json_is_one_object_and_nothing_else(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zerostart", "doctor", "--json"],
        cwd=ROOT,
        env={"PATH": "/usr/bin:/bin", "HOME": str(tmp_path), "ZEROSTART_CACHE": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for each in json.loads(done.stdout):
        assert {"name", "ok", "reason", "remedy"} <= each.keys()
        assert each["ok"] or each["reason"]


def test_help_names_every_command() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "zerostart", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    for name in COMMANDS:
        assert name in done.stdout


def test_a_warm_run_imports_little() -> None:
    """Each of these is a millisecond and more of a script's start."""
    code = (
        "import sys; from zerostart_jupyter.cli.commands import parser; parser(['run', 'x.py']);"
        "import zerostart_jupyter.install.installation;"
        "print([m for m in ('shutil', 'textwrap', 'subprocess', 'configparser', 'packaging')"
        " if m in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"


def test_a_command_imports_no_other(tmp_path: Path) -> None:
    code = (
        "import sys; from zerostart_jupyter.cli.commands import parser; parser(['doctor']);"
        "print([m for m in sys.modules if m.startswith('zerostart_jupyter.cli.')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert "zerostart_jupyter.cli.install" not in done.stdout
    assert "zerostart_jupyter.cli.doctor" in done.stdout
