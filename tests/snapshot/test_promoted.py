"""An undo point made durable."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snapshot.kernels import kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotNotFound


def test_what_was_before_the_last_cells_is_saved_and_can_still_be_undone(private: Path) -> None:
    with kernel() as one:
        one.run("import zerostart_jupyter.snapshot as z, numpy")
        one.run("z.auto(True)")
        one.run("x = 1; a = numpy.ones(100_000); same = a; lines = open('/dev/null')")
        one.run("x = 2; a[:] = 2")
        one.run("x = 3")
        shown = one.run("z.snapshot('before', from_undo=2)")
        assert shown.startswith("Saved snapshot 'before'")
        assert "not saved: lines: it is an open file '/dev/null'" in shown
        assert one.run("(x, a[0])") == "(3, np.float64(2.0))"
        assert "4 cells back" not in one.attempt("z.undo(4)").error
        assert one.run("x") == "1"
    info = snapshot.show("before")
    assert (info.tier, info.frozen_seconds) == ("portable", 0)
    with kernel(snapshot.publish("before").name) as other:
        assert other.run("(x, a[0], same is a)") == "(1, np.float64(1.0), True)"


def test_one_that_cannot_be_saved_leaves_the_point_and_no_snapshot(private: Path) -> None:
    with kernel() as one:
        one.run("import zerostart_jupyter.snapshot as z")
        one.run("z.auto(True)")
        one.run("x = 1")
        one.run("x = 2")
        assert "no undo point 9 cells back" in one.attempt("z.snapshot('b', from_undo=9)").error
        one.run("z.snapshot('taken', tier='portable')")
        assert "already a snapshot" in one.attempt("z.snapshot('taken', from_undo=1)").error
        one.run("import os; os.environ['ZEROSTART_CACHE'] = '/proc/none'")
        assert one.attempt("z.snapshot('c', from_undo=1)").error
        one.attempt("z.undo(6)")
        assert one.run("x") == "1"
    with pytest.raises(SnapshotNotFound):
        snapshot.show("c")


CANCELLING = """
import threading, time
from zerostart_jupyter.core.events import hub
from zerostart_jupyter.snapshot import procfs
def cancel():
    while not any(procfs.children(each) for each in procfs.children(os.getpid())):
        time.sleep(0.005)
    hub().cancel([each.operation for each in hub().known() if each.kind == "snapshot"][-1])
threading.Thread(target=cancel).start()
z.snapshot("never", from_undo=1)
"""


def test_a_cancelled_one_leaves_the_point_and_no_snapshot(private: Path) -> None:
    with kernel() as one:
        one.run("import os, zerostart_jupyter.snapshot as z")
        one.run("z.auto(True)")
        one.run("class Slow:\n    def __reduce__(self): import time; time.sleep(1000)")
        one.run("slow = Slow()")
        one.run("x = 1")
        assert one.attempt(CANCELLING).error.startswith("Cancelled: ")
        one.attempt("z.undo(3)")
        assert one.run("'x' in globals()") == "False"
    assert snapshot.snapshots() == []
