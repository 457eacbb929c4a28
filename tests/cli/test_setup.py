from __future__ import annotations

import json
from pathlib import Path

import pytest

from zerostart_jupyter.cli.main import main
from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import CriuMissing
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import criu, fetch, permission
from zerostart_jupyter.snapshot.criu import Criu

FETCHED = Criu(("/tools/criu",), "4.2.1")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine without CRIU."""
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path))
    monkeypatch.setenv("PATH", "/nonexistent")
    monkeypatch.delenv("ZS_CRIU", raising=False)
    monkeypatch.setattr(criu, "_PLACES", ())
    return tmp_path


@pytest.fixture
def served(bare: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """One whose packages are fetched without a network."""
    fetched: list[str] = []

    def fake(settings: Settings, told: fetch.Told) -> Criu:
        told("unpack 26 packages", 0.5)
        fetched.append(str(settings.cache))
        return FETCHED

    monkeypatch.setattr(fetch, "fetch", fake)
    return fetched


def test_each_step_is_told_with_its_seconds(
    served: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["setup", "criu"]) == 0
    first, last = capsys.readouterr().out.splitlines()
    assert first == "unpack 26 packages: 0.5 s"
    assert last.startswith("CRIU 4.2.1 ready after")
    assert last.endswith("/tools/criu")


def test_json_is_one_object(served: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["setup", "criu", "--json"]) == 0
    body = json.loads(capsys.readouterr().out)
    assert (body["fetched"], body["version"]) == (True, "4.2.1")
    assert body["steps"] == [{"step": "unpack 26 packages", "seconds": 0.5}]


def test_one_that_is_there_is_left_alone_unless_forced(
    served: list[str],
    bare: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(criu, "find", lambda settings: FETCHED)
    assert main(["setup", "criu"]) == 0
    assert "is there already" in capsys.readouterr().out
    assert served == []
    assert main(["setup", "criu", "--force"]) == 0
    assert served == [str(bare)]


def test_what_cannot_be_fetched_is_one_line(
    bare: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise CriuMissing("This is no Debian.", remedy="Run `dnf install criu`.")

    monkeypatch.setattr(fetch, "fetch", refuse)
    assert main(["setup", "criu"]) == 1
    assert capsys.readouterr().err == (
        "zerostart setup: This is no Debian. Run `dnf install criu`.\n"
    )


def test_the_kernel_that_can_be_saved_without_root_is_set_up(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(bare))
    allowed = Capability("snapshot: user namespaces", True, "allowed to this user")
    monkeypatch.setattr(permission, "namespaces", lambda: allowed)
    assert main(["setup", "kernel"]) == 0
    path = bare / "kernels/zerostart/kernel.json"
    assert capsys.readouterr().out == (
        f"Kernel 'Python 3 (zerostart)' is there to choose: {path.parent}\n"
    )
    spec = json.loads(path.read_text())
    assert spec["argv"][-2:] == ["-f", "{connection_file}"]
    assert "zerostart_jupyter.snapshot.launcher" in spec["argv"]
    assert spec["language"] == "python"


def test_where_namespaces_are_forbidden_setting_it_up_says_what_it_lacks(
    bare: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(bare))
    forbidden = Capability("snapshot: user namespaces", False, "A setting forbids.", "Change it.")
    monkeypatch.setattr(permission, "namespaces", lambda: forbidden)
    assert main(["setup", "kernel", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["namespaces"] == forbidden.as_json()
    assert main(["setup", "kernel"]) == 0
    assert "by their names: A setting forbids. Change it." in capsys.readouterr().out
