"""Snapshots as kernels of VS Code; `vscode` stands in for its Jupyter extension."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.clients.vscode import CHANNELS, KernelDied, Process, Window, listed, window
from tests.patience import eventually
from tests.snapshot.kernels import ours

CHOSEN = ("key", *(f"{name}_port" for name in CHANNELS))  # by VS Code, for each launch
CONNECTION = "import ipykernel\nprint(ipykernel.get_connection_info())"


@pytest.fixture
def code(published: Path) -> Iterator[Window]:
    """A window on the snapshot's kernelspec."""
    with window("zerostart-one", published) as opened:
        yield opened


def busy(window: Window, source: str) -> str:
    """Send a cell that prints `now`, and wait until it has; returns the request's id."""
    # With stop_on_error ipykernel drops what comes in the moment after the error.
    asked = window.client.execute(source, stop_on_error=False)
    while True:
        message = window.client.get_iopub_msg(timeout=60)
        if message["msg_type"] == "stream" and "now" in message["content"]["text"]:
            return str(asked)


def replied(window: Window, asked: str) -> str:
    """The status of the reply to a request, after the last of its output."""
    while True:
        reply = window.client.get_shell_msg(timeout=60)
        if reply["parent_header"]["msg_id"] == asked:
            return str(reply["content"]["status"])


def gone(processes: list[psutil.Process]) -> bool:
    return not psutil.wait_procs(processes, timeout=60)[1]


@pytest.mark.criu
def test_the_snapshot_answers_at_the_ports_and_with_the_key_that_vs_code_chose(
    code: Window,
) -> None:
    told = json.loads(code.run(CONNECTION))
    assert told == told | code.process.connection
    assert json.loads(code.process.file.read_text()) == told
    assert code.run("double(x)") == "2"
    assert code.attempt("print(y)").error == "NameError: name 'y' is not defined"


@pytest.mark.criu
def test_an_interrupt_of_that_pid_reaches_the_cell_and_only_the_cell(code: Window) -> None:
    asked = busy(code, "import time\nx = 5\nprint('now', flush=True)\ntime.sleep(1000)")
    code.process.interrupt()
    assert replied(code, asked) == "error"
    assert code.run("x") == "5"
    code.process.interrupt()  # with nothing to interrupt
    assert code.run("x") == "5"


@pytest.mark.criu
def test_a_cell_may_ask_for_input(code: Window) -> None:
    asked = code.client.execute("name = input('who? ')", allow_stdin=True)
    request = code.client.get_stdin_msg(timeout=60)
    assert request["content"]["prompt"] == "who? "
    code.client.input("me")
    assert replied(code, asked) == "ok"
    assert code.run("name") == "'me'"


@pytest.mark.criu
def test_the_process_lives_as_long_as_the_kernel_and_ends_as_it_ends(code: Window) -> None:
    family = code.process.family()
    assert len(family) == 4  # the shepherd, the namespace's outer and first process, the kernel
    code.client.execute("import os; os._exit(7)")
    assert code.process.popen.wait(60) == 7
    assert gone(family)


@pytest.mark.criu
def test_the_kernel_does_not_outlive_the_process(code: Window) -> None:
    code.run("import subprocess; subprocess.Popen(['sleep', '1000'])")
    family = code.process.family()
    os.kill(code.process.popen.pid, signal.SIGKILL)
    assert gone(family)


@pytest.mark.criu
def test_a_restart_gives_the_snapshot_anew_at_other_ports(code: Window) -> None:
    code.run("x = 1000")
    busy(code, "print('now', flush=True)\nwhile True: pass")
    family, before = code.process.family(), code.process.connection
    code.restart()
    assert not [name for name in CHOSEN if before[name] == code.process.connection[name]]
    assert code.run("x") == "1"
    assert gone(family)


@pytest.mark.criu
def test_a_kernel_in_vs_code_is_saved_published_and_opened_in_another_window(
    code: Window, home: Path
) -> None:
    code.run("x = 7")
    assert "Saved snapshot 'two'" in code.run("%zs_snapshot save two")
    code.run("%zs_snapshot publish two")
    with window("zerostart-two", home) as other:
        other.run("x += 1")
        assert other.run("double(x)") == "16"
        assert code.run("x") == "7"


@pytest.mark.criu
def test_a_cell_in_vs_code_restores_in_place(code: Window) -> None:
    pid = code.process.popen.pid
    code.run("x = 7")
    code.run("%zs_snapshot restore one")
    assert code.run("x") == "1"
    assert json.loads(code.run(CONNECTION))["key"] == code.process.connection["key"]
    assert (code.process.popen.pid, code.process.popen.poll()) == (pid, None)


@pytest.mark.criu
def test_an_ordinary_kernel_that_vs_code_started_becomes_the_snapshot_at_the_same_pid(
    published: Path,
) -> None:
    ipykernel(published)
    with window("plain", published) as code:
        pid = code.process.popen.pid
        code.run("%load_ext zerostart")
        assert code.attempt("x").error
        code.run("%zs_snapshot restore one")
        assert code.run("x") == "1"
        asked = busy(code, "import time\nx = 5\nprint('now', flush=True)\ntime.sleep(1000)")
        code.process.interrupt()
        assert replied(code, asked) == "error"
        assert code.run("x") == "5"
        assert (code.process.popen.pid, code.process.popen.poll()) == (pid, None)
        code.restart()  # of its command, which is ipykernel's
        assert code.attempt("x").error


@pytest.mark.criu
def test_a_launch_that_vs_code_gives_up_leaves_nothing(published: Path) -> None:
    before = {each.pid for each in ours(published)}
    process = Process(listed()["zerostart-one"], published)
    process.dispose()
    process.join()
    eventually(lambda: {each.pid for each in ours(published)} <= before)


@pytest.mark.criu
def test_a_snapshot_that_is_gone_is_one_line_of_what_vs_code_shows(
    code: Window, home: Path
) -> None:
    code.run("%zs_snapshot save going")
    code.run("%zs_snapshot publish going")
    spec = listed()["zerostart-going"]
    code.run("%zs_snapshot delete going")
    assert "zerostart-going" not in listed()
    process = Process(spec, home)
    with pytest.raises(KernelDied, match="SnapshotNotFound") as died:
        process.wait_for_ports()
    assert str(died.value).count("\n") == 1


def test_a_snapshot_by_its_names_is_a_kernel_of_vs_code_too(private: Path) -> None:
    ipykernel(private)
    with window("plain", private) as code:
        code.run("%load_ext zerostart")
        code.run("x = [1]")
        code.run("%zs_snapshot save names --tier portable")
        code.run("%zs_snapshot publish names")
    with window("zerostart-names", private) as code:
        assert code.run("x") == "[1]"
        asked = busy(code, "import time\nx = 5\nprint('now', flush=True)\ntime.sleep(1000)")
        code.process.interrupt()
        assert replied(code, asked) == "error"
        assert code.run("x") == "5"
        family = code.process.family()
        code.restart()
        assert code.run("x") == "[1]"
        assert gone(family)
        code.client.execute("import os; os._exit(7)")
        assert code.process.popen.wait(60) == 7


@pytest.mark.criu
def test_its_kernelspec_is_one_of_python_that_vs_code_lists_and_debugs(published: Path) -> None:
    spec = listed()["zerostart-one"]
    assert (spec["language"], spec["display_name"]) == ("python", "Snapshot one")
    assert spec["interrupt_mode"] == "signal"
    assert spec["metadata"]["debugger"] is True
    assert spec["metadata"]["zerostart"]["name"] == "one"
    assert spec["argv"].count("{connection_file}") == 1


def ipykernel(private: Path) -> None:
    """The kernelspec `plain`, which ipykernel itself would write."""
    from ipykernel.kernelspec import write_kernel_spec

    write_kernel_spec(private / "jupyter_data_dir" / "kernels" / "plain")
