"""A debugger is in the way of a save by name; without it all goes on, and it can come back."""

from __future__ import annotations

import pytest

from tests.snapshot.debugger import Debugger
from tests.snapshot.kernels import Cells, Kernel
from tests.snapshot.ordinary import User

CODE = "y = 1\ny = 2\ny"

LETS_GO_SLOWLY = """
import time
from _pydevd_bundle import pydevd_comm
let_go = pydevd_comm.ReaderThread._terminate_on_socket_close
pydevd_comm.ReaderThread._terminate_on_socket_close = lambda it: (time.sleep(3), let_go(it))
"""


def go_through(cells: Cells) -> None:
    cells.run("import zerostart_jupyter.snapshot as z; x = 1")
    debugger = Debugger(cells)
    debugger.attach()
    assert debugger.stops(CODE, 2)
    error = cells.attempt("z.snapshot('one', tier='process')").error
    assert error.startswith("SnapshotRefused")
    assert "the kernel holds a debugger that is attached" in error
    assert debugger.stops(CODE, 2)
    debugger.leave()
    cells.run("s = z.snapshot('one', tier='process'); x = 2")
    debugger.attach()
    assert debugger.stops(CODE, 2)
    debugger.leave()
    assert cells.attempt("z.restore('one')").error == ""
    for _ in range(2):
        debugger.attach()
        assert debugger.stops(CODE, 2)
        debugger.leave()
    assert cells.run("x, y") == "(2, 2)"


@pytest.mark.criu
def test_a_kernel_that_was_debugged_is_saved_and_debugged_again(python: Kernel) -> None:
    go_through(python)


@pytest.mark.criu
def test_so_is_an_ordinary_users(user: User) -> None:
    with user.kernel("python3", JUPYTER_DEFAULT_PROVISIONER_NAME="zerostart") as cells:
        go_through(cells)


@pytest.mark.criu
def test_one_may_attach_before_debugpy_has_seen_that_the_last_is_gone(python: Kernel) -> None:
    python.run("import zerostart_jupyter.snapshot as z")
    debugger = Debugger(python)
    debugger.attach()
    debugger.leave()
    python.run(LETS_GO_SLOWLY)
    python.run("s = z.snapshot('one', tier='process')")
    assert python.attempt("z.restore('one')").error == ""
    debugger.attach()
    assert debugger.stops(CODE, 2)
    debugger.leave()


def test_an_undo_goes_no_further_than_to_before_the_debugger(python: Kernel) -> None:
    python.run("z.auto(True)")
    python.run("x = 1")
    debugger = Debugger(python)
    debugger.attach()
    assert debugger.stops(CODE, 2)
    assert "threads of a debugger" in python.attempt("z.undo()").error
    debugger.leave()
    python.run("x = 2")
    assert "threads of a debugger" in python.attempt("z.undo()").error
    python.run("z.undo(3)")
    assert python.run("'x' in dir(), 'y' in dir()") == "(False, False)"
    debugger.attach()
    assert debugger.stops(CODE, 2)
    debugger.leave()
