"""The extension in a real kernel: progress in the cell, the status file, cancel, errors."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.jupyter.outputs import MIME

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel

WORK = """
import threading, time
from zerostart_jupyter.core.events import operation
def work(rounds, pause=0.05):
    with operation("install", "something") as op:
        for done in range(rounds):
            op.check()
            op.update("a wheel", done << 20, rounds << 20)
            op.update("", done << 20, rounds << 20)
            time.sleep(pause)
"""


def status(private: Path) -> dict[str, Any]:
    (found,) = (private / "jupyter_runtime_dir" / "zerostart").glob("*/kernel.json")
    return dict(json.loads(found.read_text()))


def test_one_display_per_operation(kernel: Kernel) -> None:
    kernel.run(WORK)
    found = kernel.run("work(20)")
    first = [each for each in found if each["type"] == "display_data"]
    later = [each for each in found if each["type"] == "update_display_data"]
    assert len(first) == 1
    bar = first[0]["data"]["text/plain"]  # type: ignore[index]
    assert re.fullmatch(
        r"Installing something  [━ ]{6,24} +\d+%  [\d.]+ MiB of 20.0 MiB, [\d.]+ MB/s"
        r"  [\d.]+ s left  a wheel",
        bar,
    )
    # At most ten a second, and one at once when it ends.
    took = (later[-1]["date"] - first[0]["date"]).total_seconds()  # type: ignore[operator]
    assert 1 <= len(later) <= 10 * took + 1
    said: Any = first[0]["data"][MIME]  # type: ignore[index]
    assert (said["title"], said["total"]) == ("something", 20 << 20)
    last: Any = later[-1]["data"]
    assert last["text/plain"].startswith("✓ Installed something")
    assert "<progress" not in last["text/html"]


def test_the_status_file_says_what_runs(kernel: Kernel, private: Path) -> None:
    kernel.run(WORK + "work(3)")
    body = status(private)
    assert body["schema"] == 1
    (view,) = body["operations"]
    assert view["title"] == "something"
    assert view["state"] == "done"
    kernel.run("%unload_ext zerostart")
    assert not list((private / "jupyter_runtime_dir").glob("zerostart/*"))


def test_a_file_cancels_what_runs(kernel: Kernel, private: Path) -> None:
    kernel.run(WORK)
    code = """
import glob, os, json
path = glob.glob(os.environ["JUPYTER_RUNTIME_DIR"] + "/zerostart/*/kernel.json")[0]
def ask():
    while True:
        running = [o["id"] for o in json.load(open(path))["operations"] if o["state"] == "running"]
        if running:
            open(os.path.dirname(path) + "/cancel-" + running[0], "w").close()
            return
        time.sleep(0.02)
threading.Thread(target=ask).start()
work(2000)
"""
    _, reply = kernel.attempt(code)
    assert reply["status"] == "error"
    assert reply["ename"] == "Cancelled"
    assert len(reply["traceback"]) == 1  # type: ignore[arg-type]


def test_an_error_is_one_line_and_fails_the_cell(kernel: Kernel) -> None:
    found, reply = kernel.attempt("%zs_snapshot restore no-such-snapshot")
    assert reply["status"] == "error"
    (error,) = [each for each in found if each["type"] == "error"]
    assert len(error["traceback"]) == 1  # type: ignore[arg-type]
    assert "no-such-snapshot" in str(error["traceback"])


def test_a_semicolon_silences(kernel: Kernel) -> None:
    loud = kernel.run("%zs_snapshot list")
    quiet = kernel.run("%zs_snapshot list;")
    assert [each for each in loud if each["type"] == "execute_result"]
    assert not [each for each in quiet if each["type"] == "execute_result"]


def test_an_interrupt_leaves_no_bar_behind(kernel: Kernel) -> None:
    kernel.run(WORK)
    asked = kernel.client.execute("work(2000)")
    shown: list[dict[str, str]] = []
    while True:
        message = kernel.client.get_iopub_msg(timeout=60)
        if message["parent_header"].get("msg_id") != asked:
            continue
        if message["msg_type"] in ("display_data", "update_display_data"):
            if not shown:
                kernel.manager.interrupt_kernel()
            shown.append(message["content"]["data"])
        if message["content"].get("execution_state") == "idle":
            break
    assert "<progress" in shown[0]["text/html"]
    assert "<progress" not in shown[-1]["text/html"]
    assert MIME in shown[0]
    assert MIME not in shown[-1], "a notebook that is opened tomorrow has nothing to cancel"
    assert kernel.run("print('goes on')")


def test_a_save_is_shown_though_the_kernel_had_no_sockets_meanwhile(kernel: Kernel) -> None:
    kernel.run("import time\nfrom zerostart_jupyter.snapshot.adapter import LiveKernel")
    kernel.run("from zerostart_jupyter.snapshot.quiesce import Sockets\n" + WORK)
    found = kernel.run("""
sockets = Sockets(LiveKernel.current())
with operation("snapshot", "one", unit="steps") as op:
    sockets.let_go()
    for _ in range(10):
        op.update("dumping")
        time.sleep(0.05)
    sockets.take()
""")
    first, *later = [each for each in found if "display_data" in str(each["type"])]
    assert first["type"] == "display_data"
    assert {each["type"] for each in later} == {"update_display_data"}
    assert later[-1]["data"]["text/plain"].startswith("✓ Saved snapshot one")  # type: ignore[index]
