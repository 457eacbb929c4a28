"""Undo and the process tier in one kernel: each works in what the other has made of it."""

from __future__ import annotations

import socket
from pathlib import Path

import psutil
import pytest

from tests.snapshot.kernels import Kernel

pytestmark = pytest.mark.criu


def test_an_undone_kernel_is_saved_and_a_restored_one_undone(python: Kernel) -> None:
    python.run("z.auto(True)")
    python.run("x = 1")
    python.run("x = 2")
    python.run("z.undo()")
    python.run("z.snapshot('one')")
    assert "Run a cell first" in python.attempt("z.undo(9)").error
    python.run("x = 3")
    python.run("z.undo()")
    assert python.run("x") == "1"
    python.run("x = 4")

    assert python.attempt("z.restore('one')").error == ""
    assert python.run("x") == "1"
    python.run("x = 5")
    python.run("x = 6")
    assert python.attempt("z.undo()").result.endswith("1 cell undone.")
    assert python.run("x") == "5"
    python.run("z.undo()")
    python.run("z.undo()")
    assert python.run("x") == "1"
    assert python.manager.is_alive()

    python.run("z.restore('one')")
    assert python.run("x") == "1"
    kinds = [each.name() for each in psutil.Process(python.pid).children(recursive=True)]
    assert len(kinds) <= 5


def test_a_save_that_is_refused_leaves_the_points(python: Kernel, private: Path) -> None:
    path = private / "outside.sock"
    with socket.socket(socket.AF_UNIX) as outside:
        outside.bind(str(path))
        outside.listen()
        python.run("z.auto(True)")
        python.run("x = 1")
        python.run(f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})")
        assert python.attempt("z.snapshot('one')").error.startswith("SnapshotRefused")
        python.run("x = 2")
        python.run("z.undo(3)")
        assert python.run("x, 's' in dir()") == "(1, False)"


def test_what_only_a_point_still_has_is_in_nobodys_way(python: Kernel) -> None:
    python.run("z.auto(True)")
    python.run("import socket; one, other = socket.socketpair()")
    python.run("other.close()")
    python.run("x = 1")
    python.run("s = z.snapshot('one')")
    assert python.attempt("z.restore('one')").error == ""
    assert python.run("x, one.recv(1)") == "(1, b'')"
