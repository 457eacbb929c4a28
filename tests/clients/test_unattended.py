"""nbclient and papermill: notebooks that run by themselves, with what they leave on paper."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nbformat
import papermill
import pytest
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

from tests.servers.index import Index


def notebook(*cells: str) -> Any:
    return nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(each) for each in cells])


def text(output: Any) -> str:
    """What is left of an output where there is nothing but text."""
    return str(output["text"] if "text" in output else output["data"]["text/plain"])


@pytest.mark.criu
def test_all_magics_work_in_nbclient_and_leave_their_last_state(
    home: Path, index: Index, weights: Path
) -> None:
    cells = [
        "%load_ext zerostart\nx = 1",
        f"%zs_install quick --wait --index-url {index.url}",
        "import quick; print(quick.word)",
        f"%zs_load {weights} --into tensors",
        "%zs_snapshot save here",
        "x = 2",
        "%zs_snapshot restore here",
        "print(x, sorted(tensors))",
    ]
    done = NotebookClient(notebook(*cells), kernel_name="python3", timeout=120).execute()
    shown = [[text(output) for output in cell.outputs] for cell in done.cells]
    assert shown[1][0].startswith("✓ Installed quick")
    assert shown[2] == ["there\n"]
    assert shown[3][0].startswith("✓ Loaded model.safetensors")
    assert shown[4][0].startswith("✓ Saved snapshot here")
    assert shown[4][1].startswith("Saved snapshot 'here'")
    assert shown[6][-1].startswith("Restored from snapshot 'here'")
    assert shown[7] == ["1 ['weight']\n"]
    assert "━" not in str(shown)
    assert "<progress" not in str(done)


@pytest.mark.criu
def test_papermill_gives_parameters_to_a_snapshot(published: Path) -> None:
    given = notebook("x = 5", "print(double(x))")
    given.cells[0].metadata["tags"] = ["parameters"]
    given.metadata["kernelspec"] = {"name": "python3", "language": "python"}
    nbformat.write(given, published / "given.ipynb")
    done = papermill.execute_notebook(
        published / "given.ipynb",
        published / "done.ipynb",
        kernel_name="zerostart-one",
        parameters={"x": 21},
        progress_bar=False,
    )
    assert done.cells[-1].outputs[0].text == "42\n"


@pytest.mark.criu
def test_a_refusal_stops_the_notebook_with_one_line(home: Path) -> None:
    run = NotebookClient(
        notebook("%load_ext zerostart", "%zs_snapshot restore nothing", "1"), kernel_name="python3"
    )
    with pytest.raises(CellExecutionError, match="There is no snapshot 'nothing'"):
        run.execute()
    (error,) = run.nb.cells[1].outputs
    assert len(error.traceback) == 1
    assert not run.nb.cells[2].outputs
