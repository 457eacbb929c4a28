"""What a fork would lose is named before there is one; pools that come back are not in the way."""

from __future__ import annotations

from pathlib import Path

from tests.snapshot.kernels import Kernel, kernel


def test_a_thread_is_named_beforehand(undoable: Kernel) -> None:
    undoable.run("x = 1")
    undoable.run(
        "import threading\nstop = threading.Event()\n"
        "t = threading.Thread(target=stop.wait, name='worker', daemon=True)\nt.start()"
    )
    ran = undoable.attempt("x = 2")
    assert "the thread 'worker'" in undoable.attempt("z.undo()").error
    undoable.run("stop.set(); t.join()")
    undoable.run("x = 3")
    assert undoable.attempt("z.undo()").result.startswith("Back to")
    assert undoable.run("x") == "2"
    assert not ran.error
    assert "the thread 'worker'" in undoable.attempt("z.undo(3)").error
    # a cell before the thread was there can still be gone back to
    undoable.run("z.undo(4)")
    assert "NameError" in undoable.attempt("t").error


def test_a_thread_that_runs_already_keeps_auto_from_starting(private: Path) -> None:
    with kernel() as made:
        made.run(
            "import zerostart_jupyter.snapshot as z, threading\n"
            "threading.Thread(target=threading.Event().wait, name='mine', daemon=True).start()"
        )
        error = made.attempt("z.auto(True)").error
        assert error.startswith("SnapshotRefused")
        assert "the thread 'mine'" in error
        assert made.run("from zerostart_jupyter.snapshot import forkable; forkable.capability().ok")


def test_a_context_on_a_gpu_is_named(undoable: Kernel, private: Path) -> None:
    """A device that is open, as a file whose path begins as theirs do."""
    undoable.run(
        "from zerostart_jupyter.snapshot import forkable\n"
        f"device = {str(private / 'nvidia')!r}\n"
        "forkable._DEVICES = {device: forkable._DEVICES['/dev/nvidia']}\n"
        "opened = open(device + '0', 'w')"
    )
    undoable.run("x = 1")
    error = undoable.attempt("z.undo()").error
    assert "No undo point can be kept while this kernel has a CUDA context" in error
    assert "a CUDA context" in undoable.attempt("z.auto(True)").error
    undoable.run("opened.close()")
    undoable.run("x = 2")
    undoable.run("x = 3")
    undoable.run("z.undo()")
    assert undoable.run("x") == "2"


BARE_THREAD = """
import ctypes, numpy
libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
def begin(): libc.pthread_create(ctypes.addressof(thread), None, pause, None)
def end(): libc.pthread_cancel(thread); libc.pthread_join(thread, None)
"""


def test_a_native_thread_is_named_beside_a_pool_that_survives(undoable: Kernel) -> None:
    undoable.run(BARE_THREAD)
    undoable.run("a = numpy.ones((600, 600)); float((a @ a)[0, 0])")
    undoable.run("begin()")
    assert "a thread of a native library" in undoable.attempt("z.auto(True)").error
    undoable.run("x = 1")
    assert "a thread of a native library" in undoable.attempt("z.undo()").error
    undoable.run("end()")
    undoable.run("x = 2")
    undoable.run("x = float((a @ a)[0, 0])")
    undoable.run("z.undo()")
    assert undoable.run("x, float((a @ a)[0, 0])") == "(2, 600.0)"


def test_pools_that_come_back_by_themselves_are_in_nobodys_way(undoable: Kernel) -> None:
    undoable.run(
        "import numpy, pandas, pyarrow, pyarrow.compute, torch\n"
        "def use():\n"
        "    a = numpy.ones((600, 600)); a @ a\n"
        "    frame = pandas.DataFrame({'k': range(100_000)})\n"
        "    table = pyarrow.Table.from_pandas(frame).group_by('k').aggregate([('k', 'sum')])\n"
        "    return float(torch.rand(600, 600).mm(torch.rand(600, 600)).sum()) > 0"
    )
    undoable.run("x = use()")
    undoable.run("x = use(), use()")
    undoable.run("z.undo()")
    assert undoable.run("x, use(), use()") == "(True, True, True)"
    undoable.run("x = use(), use()")
    undoable.run("z.undo()")
    assert undoable.run("x, use()") == "(True, True)"
