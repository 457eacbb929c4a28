"""`%zs_snapshot auto` and `undo` in a real kernel with the extension loaded."""

from __future__ import annotations

import json
import threading
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.error import UsageError
from IPython.core.interactiveshell import InteractiveShell

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel


def result(found: list[dict[str, Any]]) -> str:
    (body,) = [each["data"]["text/plain"] for each in found if each["type"] == "execute_result"]
    return str(body)


def values(found: list[dict[str, Any]]) -> list[Any]:
    """The values of sliders that the frontend was told."""
    states = [each["data"].get("state", {}) for each in found if each["type"] == "comm_msg"]
    return [state["value"] for state in states if "value" in state]


@pytest.mark.parametrize("line", ["auto", "auto maybe", "undo 1 2", "undo many"])
def test_usage(shell: InteractiveShell, line: str) -> None:
    with pytest.raises(UsageError):
        shell.run_line_magic("zs_snapshot", line)


def test_nobody_reads_during_an_undo_that_there_are_no_points(
    kernel: Kernel, private: Path
) -> None:
    kernel.run("%zs_snapshot auto on")
    kernel.run("x = 1")
    file, read, ended = status(private), set[bytes](), threading.Event()

    def look() -> None:
        while not ended.is_set():
            read.add(file.read_bytes())

    looking = threading.Thread(target=look)
    looking.start()
    try:
        kernel.run("%zs_snapshot undo")
    finally:
        ended.set()
        looking.join()
    assert len(read) > 1
    assert [each for each in read if not json.loads(each).get("undo", {}).get("on")] == []


def test_the_magics(kernel: Kernel) -> None:
    assert "the next cell is the first" in result(kernel.run("%zs_snapshot auto on"))
    kernel.run("x = 1")
    kernel.run("x = 2")
    kernel.run("x = 3")
    assert result(kernel.run("%zs_snapshot undo 2")) == ("Back to before cell [4]: 2 cells undone.")
    assert result(kernel.run("x")) == "1"
    assert not [each for each in kernel.run("%zs_snapshot undo;") if "result" in str(each["type"])]
    assert result(kernel.run("%zs_snapshot auto off")) == "Undo points are off."
    _, reply = kernel.attempt("%zs_snapshot undo")
    assert reply["ename"] == "SnapshotRefused"
    (line,) = reply["traceback"]  # type: ignore[misc]
    assert "%zs_snapshot auto on" in line


def told(private: Path) -> dict[str, Any]:
    """What the kernel's status file says of undo."""
    return dict(json.loads(status(private).read_text()).get("undo", {}))


def status(private: Path) -> Path:
    """The kernel's status file."""
    (found,) = (private / "jupyter_runtime_dir" / "zerostart").glob("*/kernel.json")
    return found


def test_the_status_file_says_which_cells_can_be_undone(kernel: Kernel, private: Path) -> None:
    assert told(private) == {}
    kernel.run("%zs_snapshot auto on")
    for value in (3, 4, 5):
        kernel.run(f"x = {value}\n")
    crc = [zlib.crc32(f"x = {value}".encode()) for value in (3, 4, 5)]
    assert told(private)["cells"] == [[3, crc[0]], [4, crc[1]], [5, crc[2]]]

    kernel.run("import zerostart\nzerostart.undo(before=4)")
    assert told(private)["cells"] == [[3, crc[0]]]
    assert told(private)["undone"] == [[4, crc[1]], [5, crc[2]]]
    assert result(kernel.run("x")) == "3"
    assert [number for number, _ in told(private)["cells"]] == [3, 7]

    _, reply = kernel.attempt("import zerostart\nzerostart.undo(before=4)")
    assert "no undo point before cell [4]" in str(reply["evalue"])
    kernel.run("%zs_snapshot auto off")
    assert told(private)["on"] is False
    assert told(private)["cells"] == []


def test_widgets_agree_afterwards(kernel: Kernel) -> None:
    kernel.run("import ipywidgets\nslider = ipywidgets.IntSlider(value=1)")
    kernel.run("%zs_snapshot auto on")
    kernel.run("slider.value = 2")
    kernel.run("slider.value = 3\nmore = ipywidgets.IntText()\nmade = more.comm.comm_id")
    found = kernel.run("print(made)\n%zs_snapshot undo")
    made = next(each["text"] for each in found if each["type"] == "stream").strip()
    assert made in [each["comm_id"] for each in found if each["type"] == "comm_close"]
    assert 2 in values(found)
    assert 3 not in values(found)
    assert values(kernel.run("slider.value = 4")) == [4]


def test_progress_is_shown_afterwards(kernel: Kernel) -> None:
    kernel.run("%zs_snapshot auto on")
    kernel.run("x = 1")
    kernel.run("%zs_snapshot undo")
    found = kernel.run(
        "from zerostart_jupyter.core.events import operation\n"
        "with operation('install', 'something'): pass"
    )
    assert [each for each in found if each["type"] == "display_data"]
