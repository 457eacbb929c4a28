"""What an ordinary user can do without any capability, from one end to the other."""

from __future__ import annotations

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.kernels import ours
from tests.snapshot.ordinary import OrdinaryKernel, User

pytestmark = pytest.mark.criu

LOCAL = {"JUPYTER_DEFAULT_PROVISIONER_NAME": "local-provisioner"}
# Two clones at once: how a user would drive them, in the user's own process.
CLONES = """
import zerostart_jupyter.snapshot as z
from tests.snapshot.kernels import Cells

both = [z.clone('one'), z.clone('one')]
cells = [Cells(each.client()) for each in both]
for number, each in enumerate(cells):
    each.run(f'x += {number + 1}')
    each.run('child.stdin.write(b"still here\\\\n"); child.stdin.flush()')
for each in cells:
    print(each.run('(x, child.stdout.readline(), ask(-2), sum(large), child.pid)'))
for each in cells:
    each.run('worker.kill(); worker.join(); child.kill(); child.wait()')
    each.client.stop_channels()
for each in both:
    each.shutdown()
"""
# A worker that was forked, as a DataLoader's are.
WORKER = """
here, there = multiprocessing.Pipe()
def work():
    while True:
        there.send(abs(there.recv()))
def ask(number):
    here.send(number)
    return here.recv()
worker = multiprocessing.get_context('fork').Process(target=work, daemon=True)
worker.start()
"""
NOTEBOOK = """
import nbformat
from nbclient import NotebookClient

cells = [nbformat.v4.new_code_cell('x += 1'), nbformat.v4.new_code_cell('print("x is", x)')]
done = NotebookClient(nbformat.v4.new_notebook(cells=cells), kernel_name='zerostart-one').execute()
print(done.cells[1].outputs[0].text)
"""


def test_a_kernel_is_saved_and_goes_on_and_comes_back_in_place(user: User) -> None:
    with user.kernel() as python:
        pid = python.pid
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        assert "kernel frozen for" in python.run("z.snapshot('one')")
        python.run("x = 2")
        ran = python.attempt("print('asking')\nz.restore('one')\nprint('never')")
        assert (ran.text, ran.error) == ("asking\n", "")
        assert python.run("x") == "1"
        assert python.pid == pid
        # Of the restored one, and then of one that was restored from that.
        python.run("x += 10; z.snapshot('two')")
        python.run("z.restore('two')")
        python.run("x += 100; z.snapshot('three')")
        python.run("x = 0")
        python.run("z.restore('three')")
        assert python.run("x") == "111"
        _is_the_users_own(python, user)


def test_a_kernel_starts_as_the_user_without_a_capability(user: User) -> None:
    with user.kernel() as python:
        _is_the_users_own(python, user)
        assert python.run("os.getppid()") == "1"
        said = python.attempt("os.system('echo from a child')").text
        assert "from a child" in said


def _is_the_users_own(python: OrdinaryKernel, user: User) -> None:
    owner = user.home.stat()
    python.run("import getpass, os")
    assert python.run("os.getuid(), os.getgid()") == f"({owner.st_uid}, {owner.st_gid})"
    assert python.run("getpass.getuser()") == repr(user.name)
    assert python.run("os.path.expanduser('~')") == repr(str(user.home))
    status = "dict(line.split(':', 1) for line in open('/proc/self/status'))"
    assert python.run(f"int({status}['CapEff'], 16), int({status}['CapAmb'], 16)") == "(0, 0)"


def test_clones_live_at_once_with_their_children_and_mapped_memory(user: User) -> None:
    with user.kernel() as python:
        python.run("import multiprocessing, subprocess, zerostart_jupyter.snapshot as z; x = 1")
        python.run("child = subprocess.Popen(['cat'], stdin=-1, stdout=-1)")
        python.run(WORKER)
        python.run("large = bytearray(b'\\1') * (32 << 20)")
        python.run("z.snapshot('one'); z.publish('one')")
        sizes = "[size for size, _ in z.show('one').manifest().memory.values()]"
        # its own, and one for the small memory of each process but `cat`
        assert python.run(f"{(32 << 20) + 4096} in {sizes}, len({sizes})") == "(True, 3)"
        pid = python.run("child.pid")
        done = user.run("-c", CLONES)
        assert done.stderr == ""
        rest = f"b'still here\\n', 2, {32 << 20}, {pid})"
        assert done.stdout.splitlines() == [f"(2, {rest}", f"(3, {rest}"]
        done = user.run("-c", NOTEBOOK, **LOCAL)
        assert done.stdout == "x is 2\n\n", done.stderr
        assert python.run("x, ask(-3)") == "(1, 3)"
        python.run("worker.kill(); child.kill()")


def test_what_only_root_could_dump_is_named_before_anything_is_frozen(user: User) -> None:
    with user.kernel() as python:
        python.run("import multiprocessing, zerostart_jupyter.snapshot as z; x = 1")
        python.run("pool = multiprocessing.get_context('fork').Pool(1)")
        error = python.attempt("z.snapshot('one')").error
        assert error.startswith("SnapshotRefused")
        assert "/dev/shm/sem." in error
        assert "deleted but mapped, which only root can dump" in error
        assert python.run("pool.map(abs, [-1]), z.snapshots()") == "([1], [])"
        python.run("pool.terminate()")


def test_it_is_interrupted_restarted_and_shut_down_like_any_kernel(user: User) -> None:
    with user.kernel() as python:
        python.client.execute(
            "import time\ntry:\n    print('now', flush=True); time.sleep(1000)\n"
            "except KeyboardInterrupt: x = 2"
        )
        while python.client.get_iopub_msg(timeout=60)["msg_type"] != "stream":
            pass
        python.manager.ask("interrupt_kernel")
        assert python.run("x") == "2"
        python.run("import subprocess; subprocess.Popen(['sleep', '1000'])")
        before = psutil.Process(python.pid)
        family = [before, *before.children(recursive=True)]
        assert len(family) == 5  # launcher, outer and first process, kernel, sleep
        python.manager.ask("restart_kernel")
        python.manager.wait_for_ready(python.client)
        assert not psutil.wait_procs(family, timeout=60)[1]
        assert "NameError" in python.attempt("x").error
        after = psutil.Process(python.pid)
        family = [after, *after.children(recursive=True)]
        python.manager.ask("shutdown_kernel")
        assert not psutil.wait_procs(family, timeout=60)[1]


def test_it_ends_as_the_kernel_ends_and_with_whoever_started_it(user: User) -> None:
    with user.kernel() as python:
        python.client.execute("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
        assert python.manager.ask("wait") == -11
    with user.kernel() as python:
        family = psutil.Process(python.pid).children(recursive=True)
        psutil.Process(python.pid).kill()
        assert not psutil.wait_procs(family, timeout=60)[1]


def test_the_kernelspec_needs_no_provisioner(user: User) -> None:
    done = user.run("-m", "zerostart", "setup", "kernel")
    assert "Python 3 (zerostart)" in done.stdout
    with user.kernel("zerostart", **LOCAL) as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1; z.snapshot('one')")
        python.run("x = 2")
        python.run("z.restore('one')")
        assert python.run("x") == "1"


def test_a_kernel_that_was_started_otherwise_says_how_and_is_saved_by_its_names(user: User) -> None:
    with user.kernel(**LOCAL) as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        said = python.run("z.snapshot('one')")
        assert "portable (an ordinary user may only dump kernels that were started in" in said
        assert "NotPermitted" in python.attempt("z.snapshot('two', tier='process')").error
        assert python.run("x") == "1"


def test_a_criu_that_fails_leaves_the_kernel_as_it_was(user: User) -> None:
    script = user.home / "criu"
    script.write_text('#!/bin/sh\n[ "$1" = --version ] && echo Version: 4.2.1 && exit 0\nexit 3\n')
    script.chmod(0o755)
    with user.kernel(ZS_CRIU=str(script)) as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        assert "CriuFailed" in python.attempt("z.snapshot('one')").error
        assert python.run("x, z.snapshots()") == "(1, [])"
        eventually(lambda: len(ours(user.home)) == 5)  # our manager, and what the kernel takes


def test_undo_keeps_the_way_to_process_1(user: User) -> None:
    with user.kernel() as python:
        python.run("%load_ext zerostart")
        python.run("%zs_snapshot auto on")
        python.run("x = 1")
        python.run("x = 2")
        python.run("%zs_snapshot undo")
        assert python.run("x") == "1"
        python.run("%zs_snapshot auto off")
        python.run("import zerostart_jupyter.snapshot as z; z.snapshot('one')")
        assert python.run("z.show('one').tier") == "'process'"


def test_where_namespaces_are_forbidden_a_kernel_starts_all_the_same(
    user: User,
) -> None:
    forbidding = user.forbidding_namespaces()
    with forbidding.kernel() as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        assert "portable" in python.run("z.snapshot('one')")
    done = forbidding.run("-m", "zerostart", "doctor")
    assert "user.max_user_namespaces=0 forbids them to ordinary users" in done.stdout
    assert "sysctl user.max_user_namespaces=15000" in done.stdout
