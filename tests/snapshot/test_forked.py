"""Undo in real kernels. Nothing here needs a privilege, or CRIU."""

from __future__ import annotations

import os
import signal
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.snapshot.kernels import Kernel, eventually, kernel, ours


@pytest.fixture
def python(private: Path) -> Iterator[Kernel]:
    """A kernel that keeps undo points; nothing of it may be left at the end."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z")
        made.run("z.auto(True)")
        yield made
    eventually(lambda: not ours(private))


def test_the_cell_that_asks_is_answered_by_the_kernel_that_wakes_up(python: Kernel) -> None:
    python.run("x = 1\ng = (n for n in range(10))\nf = lambda: next(g) + x")
    assert python.run("f()") == "1"
    python.run("x = 1000")
    before, pid = python.connection, python.pid

    ran = python.attempt("print('asking')\nz.undo(2)\nprint('never')")

    assert ran.text == "asking\n"
    assert ran.result == "Back to before cell [4]: 2 cells undone."
    assert ran.number == 6
    assert python.attempt("f()").number == 7
    assert python.run("f(), x") == "(2, 1)"
    assert (python.connection, python.pid) == (before, pid)
    assert python.manager.is_alive()
    assert python.client.hb_channel.is_beating()


def test_history_holds_what_was_run(python: Kernel) -> None:
    python.run("a = 1")
    python.run("b = 2")
    number = python.attempt("z.undo()  # here").number
    assert python.run(f"In[{number - 1}:{number + 1}]") == "['b = 2', 'z.undo()  # here']"
    python.run("get_ipython().history_manager.writeout_cache()")
    stored = (
        "import sqlite3; file = str(get_ipython().history_manager.hist_file)\n"
        "[*sqlite3.connect(file).execute('select line, source from history where line > 2')][:3]"
    )
    assert python.run(stored) == "[(3, 'a = 1'), (4, 'b = 2'), (5, 'z.undo()  # here')]"


def test_again_and_again(python: Kernel) -> None:
    python.run("import os; count = lambda: len(os.listdir('/proc/self/fd'))")
    sizes = []
    for number in range(6):
        python.run(f"x = {number}")
        python.run("x = None")
        assert "1 cell undone" in python.attempt("z.undo()").result
        assert python.run("x") == str(number)
        sizes.append(int(python.run("count()")))
        # however often it was undone, there is one keeper, and the kernel is its child
        assert python.run("os.getppid()") == str(python.pid)
    assert sizes[-1] - sizes[2] <= 2 * 2 * 3  # both pipes of three more points
    python.run("x = 'far'")
    python.run("y = 1")
    python.run("z.undo(2)")
    assert python.run("x") == "5"


def test_undo_at_once_after_an_undo_goes_one_further_back(python: Kernel) -> None:
    for number in range(4):
        python.run(f"x = {number}")
    python.run("z.undo()")
    python.run("z.undo()")
    assert python.run("x") == "1"


def test_an_open_file_is_read_on_where_it_was(python: Kernel, private: Path) -> None:
    (private / "text").write_text("".join(f"{n}\n" for n in range(100_000)))
    python.run(f"t = open({str(private / 'text')!r}); first = t.readline()")
    python.run("rest = t.read()")
    python.run("z.undo()")
    assert python.run("t.readline(), 'rest' in dir()") == r"('1\n', False)"
    assert python.run("len(t.read().split())") == str(100_000 - 2)


def test_tasks_of_the_loop_go_on(python: Kernel) -> None:
    python.run(
        "import asyncio\nticks = []\n"
        "async def tick():\n"
        "    while True:\n"
        "        ticks.append(1)\n"
        "        await asyncio.sleep(0.01)\n"
        "task = asyncio.create_task(tick())"
    )
    python.run("task.cancel()")
    python.run("z.undo()")
    assert python.run("n = len(ticks); task.done()") == "False"
    python.run("await asyncio.sleep(0.05)")
    assert python.run("len(ticks) > n") == "True"


def test_run_all_goes_on_behind_an_undo(python: Kernel) -> None:
    python.run("x = 1")
    python.run("x = 2")
    python.client.execute("import time; time.sleep(0.5)\nz.undo()")
    for _ in range(5):
        python.client.execute("x = x * 2 + 1")
    assert python.attempt("print(x)").text == "63\n"


def test_a_point_that_is_still_measuring_is_woken_all_the_same(python: Kernel) -> None:
    for _ in range(3):
        python.run("x = 1")
        python.run("x = 2")
        python.run(
            "import os; from zerostart_jupyter.snapshot import forked\n"
            "point = forked._points._all[-2]\n"
            "for _ in range(3):\n"
            "    about = {'kernel': os.getpid(), 'points': [point.pid]}\n"
            "    point.tell({'kind': 'measure'} | about)\n"
            "z.undo()"
        )
        assert python.run("x") == "1"


# The kernel that wakes up waits for the file `go` before it takes its sockets.
SLOWLY = """
import os, pathlib, time
from zerostart_jupyter.snapshot import hooks
folder = pathlib.Path({folder!r})
def wait():
    (folder / 'awake').touch()
    while not (folder / 'go').exists(): time.sleep(0.001)
    (folder / 'go').unlink()
hooks.on_restored(wait)
"""


def test_a_client_that_is_early_finds_a_socket_that_listens(python: Kernel, private: Path) -> None:
    for _ in range(2):  # with the keeper's start, and without
        python.run(SLOWLY.format(folder=str(private)))
        python.run("x = 1")
        python.client.execute("z.undo()")
        eventually((private / "awake").exists)
        for channel in ("shell", "iopub", "control", "stdin"):
            port = python.connection[f"{channel}_port"]
            socket.create_connection(("127.0.0.1", port)).close()
        (private / "awake").unlink()
        (private / "go").touch()
        assert python.run("'x' in dir()") == "False"
        python.run("hooks._callbacks.clear()")


@pytest.mark.parametrize(
    "count", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_output_of_cells_sent_during_an_undo_is_never_lost(
    python: Kernel, private: Path, count: int
) -> None:
    python.run(SLOWLY.format(folder=str(private)))
    for number in range(count):
        python.run("x = 1")
        python.client.execute("z.undo()", stop_on_error=False)
        eventually((private / "awake").exists)
        asked = python.client.execute(f"print('cell', {number})\n{number} * 2")
        (private / "awake").unlink()
        (private / "go").touch()
        assert python.output_of(asked) == [f"cell {number}\n", str(number * 2)]


def test_what_cannot_be_undone_is_an_error_in_the_cell_and_no_more(python: Kernel) -> None:
    python.run("x = 1")
    assert (
        "There is no undo point 7 cells back. Undo 1 at most" in python.attempt("z.undo(7)").error
    )
    assert "Give 1 or more" in python.attempt("z.undo(0)").error
    # cells that only asked do not count
    assert python.attempt("z.undo()").result == "Back to before cell [3]: 1 cell undone."
    assert "NameError" in python.attempt("x").error


def test_off_lets_go_of_all(python: Kernel) -> None:
    python.run("x = 1")
    assert len(psutil.Process(python.pid).children()) == 1
    assert python.run("z.auto(False)") == "Undo points are off."
    assert psutil.Process(python.pid).children() == []
    assert "auto on" in python.attempt("z.undo()").error


def test_a_thread_is_named_beforehand(python: Kernel) -> None:
    python.run("x = 1")
    python.run(
        "import threading\nstop = threading.Event()\n"
        "t = threading.Thread(target=stop.wait, name='worker', daemon=True)\nt.start()"
    )
    ran = python.attempt("x = 2")
    assert "the thread 'worker'" in python.attempt("z.undo()").error
    python.run("stop.set(); t.join()")
    python.run("x = 3")
    assert python.attempt("z.undo()").result.startswith("Back to")
    assert python.run("x") == "2"
    assert not ran.error
    assert "the thread 'worker'" in python.attempt("z.undo(3)").error
    # a cell before the thread was there can still be gone back to
    python.run("z.undo(4)")
    assert "NameError" in python.attempt("t").error


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


def test_a_context_on_a_gpu_is_named(python: Kernel, private: Path) -> None:
    """A device that is open, as a file whose path begins as theirs do."""
    python.run(
        "from zerostart_jupyter.snapshot import forkable\n"
        f"device = {str(private / 'nvidia')!r}\n"
        "forkable._DEVICES = {device: forkable._DEVICES['/dev/nvidia']}\n"
        "opened = open(device + '0', 'w')"
    )
    python.run("x = 1")
    error = python.attempt("z.undo()").error
    assert "No undo point can be kept while this kernel has a CUDA context" in error
    assert "a CUDA context" in python.attempt("z.auto(True)").error
    python.run("opened.close()")
    python.run("x = 2")
    python.run("x = 3")
    python.run("z.undo()")
    assert python.run("x") == "2"


BARE_THREAD = """
import ctypes, numpy
libc, thread = ctypes.CDLL(None), ctypes.c_ulong()
libc.pthread_create.argtypes = [ctypes.c_void_p] * 4
pause = ctypes.cast(libc.pause, ctypes.c_void_p)
def begin(): libc.pthread_create(ctypes.addressof(thread), None, pause, None)
def end(): libc.pthread_cancel(thread); libc.pthread_join(thread, None)
"""


def test_a_native_thread_is_named_beside_a_pool_that_survives(python: Kernel) -> None:
    python.run(BARE_THREAD)
    python.run("a = numpy.ones((600, 600)); float((a @ a)[0, 0])")
    python.run("begin()")
    assert "a thread of a native library" in python.attempt("z.auto(True)").error
    python.run("x = 1")
    assert "a thread of a native library" in python.attempt("z.undo()").error
    python.run("end()")
    python.run("x = 2")
    python.run("x = float((a @ a)[0, 0])")
    python.run("z.undo()")
    assert python.run("x, float((a @ a)[0, 0])") == "(2, 600.0)"


def test_pools_that_come_back_by_themselves_are_in_nobodys_way(python: Kernel) -> None:
    python.run(
        "import numpy, pandas, pyarrow, pyarrow.compute, torch\n"
        "def use():\n"
        "    a = numpy.ones((600, 600)); a @ a\n"
        "    frame = pandas.DataFrame({'k': range(100_000)})\n"
        "    table = pyarrow.Table.from_pandas(frame).group_by('k').aggregate([('k', 'sum')])\n"
        "    return float(torch.rand(600, 600).mm(torch.rand(600, 600)).sum()) > 0"
    )
    python.run("x = use()")
    python.run("x = use(), use()")
    python.run("z.undo()")
    assert python.run("x, use(), use()") == "(True, True, True)"
    python.run("x = use(), use()")
    python.run("z.undo()")
    assert python.run("x, use()") == "(True, True)"


def test_points_are_bounded_by_count(python: Kernel) -> None:
    python.run("from zerostart_jupyter.core.settings import Settings")
    python.run("z.auto(True, settings=Settings(undo_points=2))")
    for number in range(6):
        python.run(f"x = {number}")
    points = psutil.Process(python.pid).children()
    living = [each for each in points if each.status() != psutil.STATUS_ZOMBIE]
    assert len(living) <= 2 + 1
    assert len(points) <= len(living) + 1  # the last one may not have been collected yet
    assert "only the last 2 are kept (ZS_UNDO_POINTS)" in python.attempt("z.undo(4)").error
    python.run("z.undo(2)")
    assert python.run("x") == "3"


def test_points_are_bounded_by_the_memory_they_hold(python: Kernel) -> None:
    python.run("from zerostart_jupyter.core.settings import Settings")
    python.run("z.auto(True, settings=Settings(undo_mb=64))")
    python.run("block = bytearray(96 << 20)")
    python.run("x = 1")
    assert int(python.run("z.auto(True, settings=Settings(undo_mb=64)).bytes")) < 48 << 20
    python.run("for at in range(0, len(block), 4096): block[at] = 1")
    python.run("from zerostart_jupyter.snapshot import forked")
    eventually(lambda: "of memory (ZS_UNDO_MB)" in python.run("repr(forked.reach())"))
    python.run("x = 3")
    python.run("x = 4")
    python.run("z.undo()")
    assert python.run("x") == "3"


def test_memory_is_given_back_without_another_cell(python: Kernel) -> None:
    python.run("from zerostart_jupyter.core.settings import Settings")
    python.run("z.auto(True, settings=Settings(undo_mb=64))")
    python.run("block = bytearray(96 << 20)")
    python.run("x = 1")
    assert psutil.Process(python.pid).children() != []
    python.run("for at in range(0, len(block), 4096): block[at] = 1")
    eventually(lambda: psutil.Process(python.pid).children() == [])
    assert "of memory (ZS_UNDO_MB)" in python.attempt("z.undo()").error
    python.run("x = 2")
    python.run("x = 3")
    python.run("z.undo()")
    assert python.run("x") == "2"


def test_what_is_measured_is_told(python: Kernel) -> None:
    # The cells that ask have points as well.
    python.run("from zerostart_jupyter.core.settings import Settings")
    python.run("z.auto(True, settings=Settings(undo_points=1000))")
    python.run("block = bytearray(96 << 20)")
    python.run("for at in range(0, len(block), 4096): block[at] = 1")
    python.run("from zerostart_jupyter.snapshot import forked")
    eventually(lambda: int(python.run("forked.reach().bytes")) >= 96 << 20)
    python.run("z.auto(False)")
    assert python.run("forked.reach().bytes") == "0"


def test_a_point_that_was_ended_is_noticed(python: Kernel) -> None:
    python.run("x = 1")
    python.run("x = 2")
    python.run("x = 3")
    first, second, *_ = sorted(psutil.Process(python.pid).children(), key=lambda p: p.pid)
    second.kill()
    eventually(lambda: second.status() == psutil.STATUS_ZOMBIE)
    assert "it was ended" in python.attempt("z.undo(2)").error
    assert python.attempt("z.undo(1)").result
    assert python.run("x") == "2"
    assert first.is_running()


def test_a_cell_runs_where_no_fork_is_possible(python: Kernel) -> None:
    python.run("import errno, os; fork = os.fork")
    python.run(
        "def failing(): raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))\nos.fork = failing"
    )
    assert python.run("1 + 1") == "2"
    assert "there could be no fork: [Errno 12]" in python.attempt("z.undo()").error
    python.run("os.fork = fork")
    python.run("x = 1")
    python.run("x = 2")
    python.run("z.undo()")
    assert python.run("x") == "1"


def test_interrupts_reach_the_kernel_once(python: Kernel) -> None:
    python.run("x = 1")
    python.run("z.undo()")
    asked = python.client.execute(
        "try:\n    import time; print('on'); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    n = 1; time.sleep(0.2); n = 2"
    )
    while python.client.get_iopub_msg(timeout=60)["content"].get("text") != "on\n":
        pass
    python.manager.interrupt_kernel()
    while python.client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != asked:
        pass
    assert python.run("n") == "2"


def test_it_ends_as_the_kernel_ends(python: Kernel) -> None:
    python.run("x = 1")
    python.run("z.undo()")
    python.client.execute("import os; os._exit(3)")
    eventually(lambda: python.manager.provisioner.process.poll() is not None)
    assert python.manager.provisioner.process.poll() == 3


def test_a_kernel_that_is_shut_down_does_not_wait_for_its_points(python: Kernel) -> None:
    """ipykernel ends its process group before itself, again and again until none is left of it."""
    python.run("x = 1")
    points = {each.pid for each in psutil.Process(python.pid).children()}
    eventually(lambda: points == {os.getpgid(each) for each in points})
    python.manager.request_shutdown()
    eventually(lambda: python.manager.provisioner.process.poll() is not None)
    assert python.manager.provisioner.process.poll() == 0


def test_the_kernel_ends_with_the_process_that_stands_for_it(python: Kernel, private: Path) -> None:
    python.run("x = 1")
    python.run("z.undo()")
    python.run("x = 1")
    os.kill(python.pid, signal.SIGKILL)
    eventually(lambda: len(ours(private)) == 0 or all(p.pid == python.pid for p in ours(private)))


def test_children_from_before_stay_and_later_ones_go(python: Kernel) -> None:
    old = int(python.run("import subprocess; a = subprocess.Popen(['sleep', '1000']); a.pid"))
    new = int(python.run("b = subprocess.Popen(['sleep', '1000']); b.pid"))
    python.run("z.undo()")
    eventually(lambda: not psutil.pid_exists(new))
    assert psutil.pid_exists(old)
    psutil.Process(old).kill()


def test_a_socket_of_the_kernel_is_held_by_nobody_else(python: Kernel) -> None:
    python.run("x = 1")
    port = python.connection["shell_port"]
    family = [psutil.Process(python.pid), *psutil.Process(python.pid).children()]
    holders = {
        each.pid
        for each in family
        if any(c.laddr.port == port for c in each.net_connections("tcp"))
    }
    assert holders == {python.pid}


def test_a_figure_survives(python: Kernel) -> None:
    python.run("import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nline, = ax.plot([1, 2])")
    python.run("line.set_ydata([3, 4]); ax.set_title('x')")
    python.run("z.undo()")
    assert python.run("[*map(int, line.get_ydata())], ax.get_title()") == "([1, 2], '')"
    python.run("from io import BytesIO; fig.savefig(BytesIO())")


def test_torch_on_the_processor_goes_on(python: Kernel) -> None:
    python.run(
        "import torch\nw = torch.rand(700, 700, requires_grad=True)\ns = float((w @ w).sum())"
    )
    python.run("(w @ w).sum().backward(); g = float(w.grad.sum())\nwith torch.no_grad(): w.zero_()")
    python.run("z.undo()")
    assert python.run("float((w @ w).sum()) == s, w.grad") == "(True, None)"
    python.run("(w @ w).sum().backward()")


def test_points_are_the_first_to_go_when_memory_runs_out(python: Kernel) -> None:
    python.run("x = 1")
    for each in psutil.Process(python.pid).children():
        assert Path(f"/proc/{each.pid}/oom_score_adj").read_text() == "1000\n"
    before = Path(f"/proc/{python.pid}/oom_score_adj").read_text()
    python.run("z.undo()")
    assert python.run("open('/proc/self/oom_score_adj').read()") == repr(before)
    assert stat.S_ISREG(os.stat(python.manager.connection_file).st_mode)
