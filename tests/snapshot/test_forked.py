"""Undo in real kernels. Nothing here needs a privilege, or CRIU."""

from __future__ import annotations

import os
import signal
import socket
import stat
from pathlib import Path

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, ours


def test_the_cell_that_asks_is_answered_by_the_kernel_that_wakes_up(undoable: Kernel) -> None:
    undoable.run("x = 1\ng = (n for n in range(10))\nf = lambda: next(g) + x")
    assert undoable.run("f()") == "1"
    undoable.run("x = 1000")
    before, pid = undoable.connection, undoable.pid

    ran = undoable.attempt("print('asking')\nz.undo(2)\nprint('never')")

    assert ran.text == "asking\n"
    assert ran.result == "Back to before cell [4]: 2 cells undone."
    assert ran.number == 6
    assert undoable.attempt("f()").number == 7
    assert undoable.run("f(), x") == "(2, 1)"
    assert (undoable.connection, undoable.pid) == (before, pid)
    assert undoable.manager.is_alive()
    assert undoable.client.hb_channel.is_beating()


def test_history_holds_what_was_run(undoable: Kernel) -> None:
    undoable.run("a = 1")
    undoable.run("b = 2")
    number = undoable.attempt("z.undo()  # here").number
    assert undoable.run(f"In[{number - 1}:{number + 1}]") == "['b = 2', 'z.undo()  # here']"
    undoable.run("get_ipython().history_manager.writeout_cache()")
    stored = (
        "import sqlite3; file = str(get_ipython().history_manager.hist_file)\n"
        "[*sqlite3.connect(file).execute('select line, source from history where line > 2')][:3]"
    )
    assert undoable.run(stored) == "[(3, 'a = 1'), (4, 'b = 2'), (5, 'z.undo()  # here')]"


def test_again_and_again(undoable: Kernel) -> None:
    undoable.run("import os; count = lambda: len(os.listdir('/proc/self/fd'))")
    sizes = []
    for number in range(6):
        undoable.run(f"x = {number}")
        undoable.run("x = None")
        assert "1 cell undone" in undoable.attempt("z.undo()").result
        assert undoable.run("x") == str(number)
        sizes.append(int(undoable.run("count()")))
        # however often it was undone, there is one keeper, and the kernel is its child
        assert undoable.run("os.getppid()") == str(undoable.pid)
    assert sizes[-1] - sizes[2] <= 2 * 2 * 3  # both pipes of three more points
    undoable.run("x = 'far'")
    undoable.run("y = 1")
    undoable.run("z.undo(2)")
    assert undoable.run("x") == "5"


def test_undo_at_once_after_an_undo_goes_one_further_back(undoable: Kernel) -> None:
    for number in range(4):
        undoable.run(f"x = {number}")
    undoable.run("z.undo()")
    undoable.run("z.undo()")
    assert undoable.run("x") == "1"


def test_an_open_file_is_read_on_where_it_was(undoable: Kernel, private: Path) -> None:
    (private / "text").write_text("".join(f"{n}\n" for n in range(100_000)))
    undoable.run(f"t = open({str(private / 'text')!r}); first = t.readline()")
    undoable.run("rest = t.read()")
    undoable.run("z.undo()")
    assert undoable.run("t.readline(), 'rest' in dir()") == r"('1\n', False)"
    assert undoable.run("len(t.read().split())") == str(100_000 - 2)


def test_tasks_of_the_loop_go_on(undoable: Kernel) -> None:
    undoable.run(
        "import asyncio\nticks = []\n"
        "async def tick():\n"
        "    while True:\n"
        "        ticks.append(1)\n"
        "        await asyncio.sleep(0.01)\n"
        "task = asyncio.create_task(tick())"
    )
    undoable.run("task.cancel()")
    undoable.run("z.undo()")
    assert undoable.run("n = len(ticks); task.done()") == "False"
    undoable.run("await asyncio.sleep(0.05)")
    assert undoable.run("len(ticks) > n") == "True"


def test_run_all_goes_on_behind_an_undo(undoable: Kernel) -> None:
    undoable.run("x = 1")
    undoable.run("x = 2")
    undoable.client.execute("import time; time.sleep(0.5)\nz.undo()")
    for _ in range(5):
        undoable.client.execute("x = x * 2 + 1")
    assert undoable.attempt("print(x)").text == "63\n"


def test_a_point_that_is_still_measuring_is_woken_all_the_same(undoable: Kernel) -> None:
    for _ in range(3):
        undoable.run("x = 1")
        undoable.run("x = 2")
        undoable.run(
            "import os; from zerostart_jupyter.snapshot import forked\n"
            "point = forked._points._all[-2]\n"
            "for _ in range(3):\n"
            "    about = {'kernel': os.getpid(), 'points': [point.pid]}\n"
            "    point.tell({'kind': 'measure'} | about)\n"
            "z.undo()"
        )
        assert undoable.run("x") == "1"


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


def test_a_client_that_is_early_finds_a_socket_that_listens(
    undoable: Kernel, private: Path
) -> None:
    for _ in range(2):  # with the keeper's start, and without
        undoable.run(SLOWLY.format(folder=str(private)))
        undoable.run("x = 1")
        undoable.client.execute("z.undo()")
        eventually((private / "awake").exists)
        for channel in ("shell", "iopub", "control", "stdin"):
            port = undoable.connection[f"{channel}_port"]
            socket.create_connection(("127.0.0.1", port)).close()
        (private / "awake").unlink()
        (private / "go").touch()
        assert undoable.run("'x' in dir()") == "False"
        undoable.run("hooks._callbacks.clear()")


@pytest.mark.parametrize(
    "count", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_output_of_cells_sent_during_an_undo_is_never_lost(
    undoable: Kernel, private: Path, count: int
) -> None:
    undoable.run(SLOWLY.format(folder=str(private)))
    for number in range(count):
        undoable.run("x = 1")
        undoable.client.execute("z.undo()", stop_on_error=False)
        eventually((private / "awake").exists)
        asked = undoable.client.execute(f"print('cell', {number})\n{number} * 2")
        (private / "awake").unlink()
        (private / "go").touch()
        assert undoable.output_of(asked) == [f"cell {number}\n", str(number * 2)]


def test_what_cannot_be_undone_is_an_error_in_the_cell_and_no_more(undoable: Kernel) -> None:
    undoable.run("x = 1")
    assert (
        "There is no undo point 7 cells back. Undo 1 at most" in undoable.attempt("z.undo(7)").error
    )
    assert "Give 1 or more" in undoable.attempt("z.undo(0)").error
    # cells that only asked do not count
    assert undoable.attempt("z.undo()").result == "Back to before cell [3]: 1 cell undone."
    assert "NameError" in undoable.attempt("x").error


def test_off_lets_go_of_all(undoable: Kernel) -> None:
    undoable.run("x = 1")
    assert len(psutil.Process(undoable.pid).children()) == 1
    assert undoable.run("z.auto(False)") == "Undo points are off."
    assert psutil.Process(undoable.pid).children() == []
    assert "auto on" in undoable.attempt("z.undo()").error


def test_a_point_that_was_ended_is_noticed(undoable: Kernel) -> None:
    undoable.run("x = 1")
    undoable.run("x = 2")
    undoable.run("x = 3")
    first, second, *_ = sorted(psutil.Process(undoable.pid).children(), key=lambda p: p.pid)
    second.kill()
    eventually(lambda: second.status() == psutil.STATUS_ZOMBIE)
    assert "it was ended" in undoable.attempt("z.undo(2)").error
    assert undoable.attempt("z.undo(1)").result
    assert undoable.run("x") == "2"
    assert first.is_running()


def test_a_cell_runs_where_no_fork_is_possible(undoable: Kernel) -> None:
    undoable.run("import errno, os; fork = os.fork")
    undoable.run(
        "def failing(): raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))\nos.fork = failing"
    )
    assert undoable.run("1 + 1") == "2"
    assert "there could be no fork: [Errno 12]" in undoable.attempt("z.undo()").error
    undoable.run("os.fork = fork")
    undoable.run("x = 1")
    undoable.run("x = 2")
    undoable.run("z.undo()")
    assert undoable.run("x") == "1"


def test_interrupts_reach_the_kernel_once(undoable: Kernel) -> None:
    undoable.run("x = 1")
    undoable.run("z.undo()")
    asked = undoable.client.execute(
        "try:\n    import time; print('on'); time.sleep(60)\n"
        "except KeyboardInterrupt:\n    n = 1; time.sleep(0.2); n = 2"
    )
    while undoable.client.get_iopub_msg(timeout=60)["content"].get("text") != "on\n":
        pass
    undoable.manager.interrupt_kernel()
    while undoable.client.get_shell_msg(timeout=60)["parent_header"]["msg_id"] != asked:
        pass
    assert undoable.run("n") == "2"


def test_it_ends_as_the_kernel_ends(undoable: Kernel) -> None:
    undoable.run("x = 1")
    undoable.run("z.undo()")
    undoable.client.execute("import os; os._exit(3)")
    eventually(lambda: undoable.manager.provisioner.process.poll() is not None)
    assert undoable.manager.provisioner.process.poll() == 3


def test_a_kernel_that_is_shut_down_does_not_wait_for_its_points(undoable: Kernel) -> None:
    """ipykernel ends its process group before itself, again and again until none is left of it."""
    undoable.run("x = 1")
    points = {each.pid for each in psutil.Process(undoable.pid).children()}
    eventually(lambda: points == {os.getpgid(each) for each in points})
    undoable.manager.request_shutdown()
    eventually(lambda: undoable.manager.provisioner.process.poll() is not None)
    assert undoable.manager.provisioner.process.poll() == 0


def test_the_kernel_ends_with_the_process_that_stands_for_it(
    undoable: Kernel, private: Path
) -> None:
    undoable.run("x = 1")
    undoable.run("z.undo()")
    undoable.run("x = 1")
    os.kill(undoable.pid, signal.SIGKILL)
    eventually(lambda: len(ours(private)) == 0 or all(p.pid == undoable.pid for p in ours(private)))


def test_children_from_before_stay_and_later_ones_go(undoable: Kernel) -> None:
    old = int(undoable.run("import subprocess; a = subprocess.Popen(['sleep', '1000']); a.pid"))
    new = int(undoable.run("b = subprocess.Popen(['sleep', '1000']); b.pid"))
    undoable.run("z.undo()")
    eventually(lambda: not psutil.pid_exists(new))
    assert psutil.pid_exists(old)
    psutil.Process(old).kill()


def test_a_socket_of_the_kernel_is_held_by_nobody_else(undoable: Kernel) -> None:
    undoable.run("x = 1")
    port = undoable.connection["shell_port"]
    family = [psutil.Process(undoable.pid), *psutil.Process(undoable.pid).children()]
    holders = {
        each.pid
        for each in family
        if any(c.laddr.port == port for c in each.net_connections("tcp"))
    }
    assert holders == {undoable.pid}


def test_a_figure_survives(undoable: Kernel) -> None:
    undoable.run(
        "import matplotlib.pyplot as plt\nfig, ax = plt.subplots()\nline, = ax.plot([1, 2])"
    )
    undoable.run("line.set_ydata([3, 4]); ax.set_title('x')")
    undoable.run("z.undo()")
    assert undoable.run("[*map(int, line.get_ydata())], ax.get_title()") == "([1, 2], '')"
    undoable.run("from io import BytesIO; fig.savefig(BytesIO())")


def test_torch_on_the_processor_goes_on(undoable: Kernel) -> None:
    undoable.run(
        "import torch\nw = torch.rand(700, 700, requires_grad=True)\ns = float((w @ w).sum())"
    )
    undoable.run(
        "(w @ w).sum().backward(); g = float(w.grad.sum())\nwith torch.no_grad(): w.zero_()"
    )
    undoable.run("z.undo()")
    assert undoable.run("float((w @ w).sum()) == s, w.grad") == "(True, None)"
    undoable.run("(w @ w).sum().backward()")


def test_points_are_the_first_to_go_when_memory_runs_out(undoable: Kernel) -> None:
    undoable.run("x = 1")
    for each in psutil.Process(undoable.pid).children():
        assert Path(f"/proc/{each.pid}/oom_score_adj").read_text() == "1000\n"
    before = Path(f"/proc/{undoable.pid}/oom_score_adj").read_text()
    undoable.run("z.undo()")
    assert undoable.run("open('/proc/self/oom_score_adj').read()") == repr(before)
    assert stat.S_ISREG(os.stat(undoable.manager.connection_file).st_mode)
