"""Whose output progress is, and how much of it, in a real kernel."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import TYPE_CHECKING, Any

import nbformat
import pytest
from nbclient import NotebookClient

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel

Message = dict[str, Any]

SETUP = """
import threading, time
from zerostart_jupyter.core.events import operation
def work(title, seconds, kind="load", begun=None):
    with operation(kind, title) as op:
        begun and begun.set()
        for done in range(max(1, int(seconds * 100))):
            op.update("", done, 100 * seconds)
            time.sleep(0.01 if seconds else 0)
def behind(*work_of):
    begun = threading.Event()
    thread = threading.Thread(target=work, args=work_of, kwargs={"begun": begun})
    thread.start()
    begun.wait(60)
    return thread
"""


@pytest.fixture
def run(kernel: Kernel) -> Callable[..., list[list[Message]]]:
    """Queue cells at once; for each what was displayed as its own, in order."""
    kernel.run(SETUP)

    def queue(*cells: str) -> list[list[Message]]:
        asked = [kernel.client.execute(cell) for cell in cells]
        found: dict[str, list[Message]] = {each: [] for each in asked}
        idle = set()
        while idle != set(asked):
            message = kernel.client.get_iopub_msg(timeout=60)
            parent = message["parent_header"].get("msg_id")
            if message["content"].get("execution_state") == "idle":
                idle.add(parent)
            elif "display_data" in message["msg_type"]:
                found[parent].append(message)
        return list(found.values())

    return queue


def texts(messages: list[Message], kind: str = "display_data") -> list[str]:
    """What they say, of those that begin an output or else update one."""
    return [each["content"]["data"]["text/plain"] for each in messages if each["msg_type"] == kind]


def in_any_second(messages: list[Message]) -> int:
    """The most messages that came within a second."""
    sent: list[datetime] = [each["header"]["date"] for each in messages]
    return max(sum(0 <= (later - first).total_seconds() < 1 for later in sent) for first in sent)


def test_work_is_shown_in_the_cell_that_began_it(run: Callable[..., list[list[Message]]]) -> None:
    began, other = run("thread = behind('mine', 0.6)", "time.sleep(0.3); thread.join()")
    (first,) = texts(began)
    assert first.startswith("Loading mine")
    assert texts(other) == []
    *_, last = texts(other, "update_display_data")
    assert last.startswith("✓ Loaded mine")


def test_what_is_not_over_when_its_cell_ends_is_shown_by_then(
    run: Callable[..., list[list[Message]]],
) -> None:
    held = (
        "go = threading.Event()\n"
        "def hold():\n"
        "    with operation('load', 'mine'): begun.set(); go.wait(60)\n"
        "begun = threading.Event(); thread = threading.Thread(target=hold)\n"
        "thread.start(); begun.wait(60)"
    )
    began, _ = run(held, "go.set(); thread.join()")
    assert [each.partition("  ")[0] for each in texts(began)] == ["Loading mine"]


def test_a_hundred_quick_ones_are_one_output(run: Callable[..., list[list[Message]]]) -> None:
    cell = "for n in range(100): work(f'file {n}', 0)\nwork('other', 0, 'install')"
    (shown,) = run(cell)
    assert len(texts(shown)) == 2  # one of each kind
    assert len(shown) <= 10 + 2
    loaded, installed = texts(shown[-2:], shown[-2]["msg_type"])[0], texts(shown)[-1]
    assert {loaded.partition(" in ")[0], installed.partition(" in ")[0]} == {
        "✓ Loaded file 0 and 99 more",
        "✓ Installed other",
    }


def test_a_cell_of_its_own_has_an_output_of_its_own(
    run: Callable[..., list[list[Message]]],
) -> None:
    first, second = run("work('one', 0)", "work('two', 0)")
    assert [each.partition(" in ")[0] for each in texts(first)] == ["✓ Loaded one"]
    assert [each.partition(" in ")[0] for each in texts(second)] == ["✓ Loaded two"]


def test_many_at_once_send_no_more_than_one(run: Callable[..., list[list[Message]]]) -> None:
    cell = "for each in [behind(f'file {n}', 2) for n in range(8)]: each.join()"
    (shown,) = run(cell)
    assert len(texts(shown)) == 8
    last = {each["content"]["transient"]["display_id"]: each for each in shown}
    assert all(
        text.startswith("✓ Loaded file")
        for each in last.values()
        for text in [each["content"]["data"]["text/plain"]]
    )
    assert in_any_second(shown) <= 10 + 8  # all say at the end of the cell how it went


def test_a_failure_is_told_once(kernel: Kernel) -> None:
    kernel.run(SETUP)
    found, reply = kernel.attempt(
        "with operation('load', 'it') as op:\n    time.sleep(0.2)\n    op.update('', 1, 2)\n"
        "    time.sleep(0.2)\n    raise OSError('the disk is gone')"
    )
    assert reply["evalue"] == "the disk is gone"
    said: Any = [each["data"] for each in found if "display_data" in str(each["type"])][-1]
    assert said["text/plain"] == "✗ Loading it failed."
    caught = kernel.run(
        "try:\n    with operation('load', 'it'): raise OSError('the disk is gone')\n"
        "except OSError: pass"
    )
    (shown,) = [each["data"]["text/plain"] for each in caught if each["type"] == "display_data"]  # type: ignore[index]
    assert shown == "✗ Loading it failed: the disk is gone"


def test_on_paper_nothing_is_left_running(private: object) -> None:
    cells = ["%load_ext zerostart", SETUP, "thread = behind('mine', 0.5)", "thread.join()"]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])
    NotebookClient(notebook, timeout=60, kernel_name="python3").execute()
    (output,) = notebook.cells[2].outputs
    assert output.data["text/plain"].startswith("✓ Loaded mine")
    assert "<progress" not in output.data["text/html"]
    assert notebook.cells[3].outputs == []
