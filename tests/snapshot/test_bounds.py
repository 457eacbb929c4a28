"""Undo points within their bounds."""

from __future__ import annotations

import psutil

from tests.patience import eventually
from tests.snapshot.kernels import Kernel


def test_points_are_bounded_by_count(undoable: Kernel) -> None:
    undoable.run("from zerostart_jupyter.core.settings import Settings")
    undoable.run("z.auto(True, settings=Settings(undo_points=2))")
    for number in range(6):
        undoable.run(f"x = {number}")
    points = psutil.Process(undoable.pid).children()
    living = [each for each in points if each.status() != psutil.STATUS_ZOMBIE]
    assert len(living) <= 2 + 1
    assert len(points) <= len(living) + 1  # the last one may not have been collected yet
    assert "only the last 2 are kept (ZS_UNDO_POINTS)" in undoable.attempt("z.undo(4)").error
    undoable.run("z.undo(2)")
    assert undoable.run("x") == "3"


def test_points_are_bounded_by_the_memory_they_hold(undoable: Kernel) -> None:
    undoable.run("from zerostart_jupyter.core.settings import Settings")
    undoable.run("z.auto(True, settings=Settings(undo_mb=64))")
    undoable.run("block = bytearray(96 << 20)")
    undoable.run("x = 1")
    assert int(undoable.run("z.auto(True, settings=Settings(undo_mb=64)).bytes")) < 48 << 20
    undoable.run("for at in range(0, len(block), 4096): block[at] = 1")
    undoable.run("from zerostart_jupyter.snapshot import forked")
    eventually(lambda: "of memory (ZS_UNDO_MB)" in undoable.run("repr(forked.reach())"))
    undoable.run("x = 3")
    undoable.run("x = 4")
    undoable.run("z.undo()")
    assert undoable.run("x") == "3"


def test_memory_is_given_back_without_another_cell(undoable: Kernel) -> None:
    undoable.run("from zerostart_jupyter.core.settings import Settings")
    undoable.run("z.auto(True, settings=Settings(undo_mb=64))")
    undoable.run("block = bytearray(96 << 20)")
    undoable.run("x = 1")
    assert psutil.Process(undoable.pid).children() != []
    undoable.run("for at in range(0, len(block), 4096): block[at] = 1")
    eventually(lambda: psutil.Process(undoable.pid).children() == [])
    assert "of memory (ZS_UNDO_MB)" in undoable.attempt("z.undo()").error
    undoable.run("x = 2")
    undoable.run("x = 3")
    undoable.run("z.undo()")
    assert undoable.run("x") == "2"


def test_what_is_measured_is_told(undoable: Kernel) -> None:
    # The cells that ask have points as well.
    undoable.run("from zerostart_jupyter.core.settings import Settings")
    undoable.run("z.auto(True, settings=Settings(undo_points=1000))")
    undoable.run("block = bytearray(96 << 20)")
    undoable.run("for at in range(0, len(block), 4096): block[at] = 1")
    undoable.run("from zerostart_jupyter.snapshot import forked")
    eventually(lambda: int(undoable.run("forked.reach().bytes")) >= 96 << 20)
    undoable.run("z.auto(False)")
    assert undoable.run("forked.reach().bytes") == "0"
