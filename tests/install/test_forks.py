"""Imports in children that were forked while packages arrive."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.install.coming import Coming
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import children
from zerostart_jupyter.install.activation import landed


def test_a_forked_child_goes_by_the_markers(coming: Coming) -> None:
    coming.claim("gt-three", "gt_three.py")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(importlib.import_module("gt_three").X).encode())
        finally:
            os._exit(0)
    coming.write("gt_three.py", "X = 9")
    landed(coming.root, "gt-three").touch()
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 10) == b"9"
    os.close(read)


class Fork:
    """A forked child that imports a module, and says what came of it."""

    def __init__(self, module: str) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                try:
                    said = str(importlib.import_module(module).X)
                except ImportError as error:
                    said = f"{type(error).__name__}: {error}"
                os.write(write, said.encode())
            finally:
                os._exit(0)
        os.close(write)

    def says(self) -> str:
        try:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "it hangs"
            return os.read(self._read, 1000).decode()
        finally:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._read)


@pytest.fixture
def told(coming: Coming, tmp_path: Path) -> Coming:
    """The same, of which children are told."""
    coming.pending.tell = lambda: children.tell(coming.pending, tmp_path / "no-lock")
    coming.pending.tell()
    return coming


def test_a_failure_reaches_a_forked_child(told: Coming) -> None:
    told.claim("gt-one", "gt_one.py")
    told.pending.tell()
    child = Fork("gt_one")
    told.pending.fail(NetworkError("The index is gone.", remedy=""))
    assert child.says() == "ImportError: gt_one will not come: The index is gone."


def test_a_forked_child_learns_a_name_that_is_told_later(told: Coming) -> None:
    child = Fork("gt_other_name")
    told.claim("gt-one", "gt_one.py")
    told.claim("gt-two", "gt_two.py")
    told.claim("gt-three", "gt_other_name.py")
    told.write("gt_other_name.py", "X = 4")
    told.land("gt-three")
    assert child.says() == "4"


def test_a_forked_child_is_told_of_names_that_nobody_has(told: Coming) -> None:
    child = Fork("gt_absent")
    for name in ("gt-one", "gt-two", "gt-three"):
        told.claim(name, f"{name.replace('-', '_')}.py")
    assert child.says() == "ModuleNotFoundError: No module named 'gt_absent'"


@pytest.mark.parametrize("module", ["gt_one", "gt_of_an_unknown_wheel"])
@pytest.mark.parametrize("tells", [True, False])
def test_a_forked_child_does_not_wait_for_a_parent_that_was_killed(
    module: str, tells: bool, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "env"), module, str(int(tells))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    with process.stdout as said:
        first = said.readline()
        process.kill()
        process.wait(PATIENCE)
        ready, _, _ = select.select([said], [], [], PATIENCE)
        assert (first, ready) == ("waits\n", [said])
        assert said.readline() == f"No module named '{module}'\n"


KILLED = """
import importlib, os, signal, sys, threading
from pathlib import Path
from zerostart_jupyter.install import children
from zerostart_jupyter.install.activation import activate, landed, site_of
from zerostart_jupyter.install.gate import Pending, gate
from zerostart_jupyter.install.imports import import_names
root = Path(sys.argv[1])
site_of(root).mkdir(parents=True)
landed(root, "x").parent.mkdir(parents=True)
pending = Pending(root, ["gt-one", "gt-two"], lambda _: None, lambda name: [name])
gate.open(pending)
pending.guess("gt-one", import_names(["gt_one.py"]))
activate(root)
if sys.argv[3] == "1":
    children.tell(pending, root / "no-lock")
if os.fork() == 0:
    signal.alarm(100)  # whatever the test comes to
    threading.Timer(0.3, print, ["waits"], {"flush": True}).start()
    try:
        importlib.import_module(sys.argv[2])
    except ImportError as error:
        print(error, flush=True)
    os._exit(0)
signal.pause()
"""
