from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import nbformat
import psutil
import pytest
from nbclient import NotebookClient

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, kernel, ours
from zerostart_jupyter import snapshot

pytestmark = pytest.mark.criu


@pytest.fixture
def published(python: Kernel) -> Iterator[Kernel]:
    """A kernel of the kernelspec of a snapshot with x = 1."""
    python.run("x = 1\nz.snapshot('one')")
    snapshot.publish("one")
    with kernel("zerostart-one") as made:
        yield made


def test_an_interrupt_reaches_the_cell_and_only_the_cell(published: Kernel) -> None:
    published.client.execute(
        "import time\ntry:\n    print('now', flush=True); time.sleep(1000)\n"
        "except KeyboardInterrupt: x = 2"
    )
    _busy(published)
    published.manager.interrupt_kernel()
    assert published.run("x") == "2"


def test_a_restart_rewinds(published: Kernel) -> None:
    published.run("x = 1000")
    pid = published.pid
    published.manager.restart_kernel()
    published.client.wait_for_ready(timeout=60)
    assert published.run("x") == "1"
    assert not psutil.pid_exists(pid)


def test_a_busy_kernel_restarts_too(published: Kernel) -> None:
    published.client.execute("x = 5; print('now', flush=True)\nwhile True: pass")
    _busy(published)
    published.manager.restart_kernel(now=True)
    published.client.wait_for_ready(timeout=60)
    assert published.run("x") == "1"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_the_end_of_the_shepherd_is_the_end_of_everything(
    published: Kernel, python: Kernel, number: signal.Signals
) -> None:
    published.run("import subprocess; subprocess.Popen(['sleep', '1000'])")
    family = [psutil.Process(published.pid), *psutil.Process(published.pid).children(True)]
    assert len(family) == 5  # the shepherd, the namespace's outer and first process, kernel, sleep
    os.kill(published.pid, number)
    _gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive
    assert python.run("x") == "1"


def test_a_shutdown_request_ends_everything(published: Kernel) -> None:
    published.run("import subprocess; subprocess.Popen(['sleep', '1000'])")
    family = [psutil.Process(published.pid), *psutil.Process(published.pid).children(True)]
    published.manager.shutdown_kernel()
    _gone, alive = psutil.wait_procs(family, timeout=60)
    assert not alive


def test_it_ends_as_the_kernel_ends(published: Kernel) -> None:
    process = published.manager.provisioner.process
    published.client.execute("import os; os._exit(7)")
    assert process.wait(60) == 7


def test_a_kernel_that_is_killed_by_a_signal(published: Kernel) -> None:
    process = published.manager.provisioner.process
    published.client.execute("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    assert process.wait(60) == -signal.SIGSEGV


def test_it_ends_when_whoever_started_it_is_gone(python: Kernel, with_criu: Path) -> None:
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    starter = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from tests.snapshot.kernels import kernel\nimport os\n"
            "with kernel('zerostart-one') as k:\n"
            "    print(k.pid, flush=True)\n    os.kill(os.getpid(), 9)",
        ],
        stdout=subprocess.PIPE,
        cwd=Path(__file__).parents[2],
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    starter.wait()
    starter.stdout.close()
    eventually(lambda: not psutil.pid_exists(pid))


def test_a_notebook_runs_on_it(python: Kernel, with_criu: Path) -> None:
    python.run("x = 41\nz.snapshot('one')")
    snapshot.publish("one")
    notebook = nbformat.v4.new_notebook(
        cells=[nbformat.v4.new_code_cell("print('x is', x + 1)"), nbformat.v4.new_code_cell("x")]
    )
    done = NotebookClient(notebook, kernel_name="zerostart-one", timeout=60).execute()
    assert done.cells[0].outputs[0].text == "x is 42\n"
    assert done.cells[1].outputs[0].data["text/plain"] == "41"


def test_an_unknown_snapshot_is_one_line(private: Path) -> None:
    done = subprocess.run(
        [
            *(sys.executable, "-m", "zerostart_jupyter.snapshot.shepherd"),
            *("--snapshot", "nothing", "-f", str(private / "kernel-x.json")),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "nothing" in done.stderr
    assert not ours(private)


def _busy(kernel: Kernel) -> None:
    """Wait until the cell that was sent has printed something."""
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream":
            return
    raise AssertionError("the cell never began")


def test_the_panel_sees_the_restore(python: Kernel, with_criu: Path) -> None:
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    with kernel("zerostart-one") as made:
        made.run("1")
        (status,) = with_criu.glob("jupyter_runtime_dir/zerostart/*/shepherd.json")
        (operation,) = json.loads(status.read_text())["operations"]
        assert (operation["kind"], operation["title"]) == ("restore", "one")
        assert status.parent.name == Path(made.manager.connection_file).stem
        eventually(lambda: json.loads(status.read_text())["operations"][0]["state"] == "done")
        made.manager.shutdown_kernel()
        assert not status.exists()


def test_a_shepherd_begins_without_what_it_needs_only_later() -> None:
    heavy = {"asyncio", "ssl", "logging", "concurrent.futures", "jupyter_core", "datetime"}
    code = "import sys, zerostart_jupyter.snapshot.shepherd; print(*sys.modules)"
    ran = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, check=True)
    assert not heavy & set(ran.stdout.decode().split())
