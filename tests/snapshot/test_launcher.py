from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from zerostart_jupyter.snapshot import launcher


class Became(Exception):
    """What would be run in place of this process."""


@pytest.fixture
def becoming(monkeypatch: pytest.MonkeyPatch) -> None:
    def become(program: str, argv: list[str]) -> None:
        raise Became(program, *argv)

    monkeypatch.setattr(os, "execvp", become)


def test_root_needs_no_namespace(becoming: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "geteuid", lambda: 0)
    with pytest.raises(Became) as caught:
        launcher.main(["-f", "kernel-1.json", "--", "python", "-m", "kernel", "-f", "x"])
    assert caught.value.args == ("python", "python", "-m", "kernel", "-f", "x")


def test_where_no_namespace_is_allowed_it_says_so_and_becomes_the_kernel(
    becoming: None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def enter(control: int, parent: int, first: object) -> None:
        from zerostart_jupyter.core.errors import NotPermitted
        from zerostart_jupyter.snapshot import wire

        error = NotPermitted("A setting forbids it.", remedy="Change it.")
        wire.send(control, wire.describe(error))
        os._exit(1)

    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    monkeypatch.setattr(launcher.privileges, "missing", lambda: ["CAP_SYS_ADMIN"])
    monkeypatch.setattr(launcher.isolation, "enter", enter)
    blocked = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with pytest.raises(Became):
        launcher.main(["-f", "kernel-1.json", "--", "python"])
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == blocked
    said = capsys.readouterr().err
    assert said == (
        "zerostart: this kernel can only be saved by its names: A setting forbids it. Change it.\n"
    )


def test_it_has_the_kernel_begin_before_it_imports_the_shepherd() -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-c"),
            "import sys, zerostart_jupyter.snapshot.launcher; print(*sys.modules)",
        ],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    late = {"shepherd", "namespace", "catalog", "criu", "manifest"}
    assert not late & {name.rpartition(".")[2] for name in done.stdout.split()}
