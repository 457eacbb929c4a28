from __future__ import annotations

import json
from pathlib import Path

import nbformat
import pytest

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install import cells, gather

BLOCK = '# /// script\n# dependencies = ["one"]\n# ///\n'


def notebook(path: Path, *texts: str | list[str], kind: str = "code") -> Path:
    body = {"cells": [{"cell_type": kind, "source": text} for text in texts]}
    path.write_text(json.dumps(body))
    return path


def test_a_cells_text_may_be_lines(tmp_path: Path) -> None:
    found = cells.notebook_block(notebook(tmp_path / "a.ipynb", BLOCK.splitlines(keepends=True)))
    assert found == '# dependencies = ["one"]\n'


def test_text_that_is_data_is_not_the_notebooks(tmp_path: Path) -> None:
    written = f"%%writefile other.py\n{BLOCK}"
    assert cells.notebook_block(notebook(tmp_path / "a.ipynb", written)) is None
    assert cells.notebook_block(notebook(tmp_path / "b.ipynb", BLOCK, kind="markdown")) is None
    assert cells.notebook_block(notebook(tmp_path / "c.ipynb", written, f"%%time\n{BLOCK}"))


def test_two_blocks_are_refused_by_their_cells(tmp_path: Path) -> None:
    path = notebook(tmp_path / "two.ipynb", BLOCK, "x = 1", BLOCK)
    with pytest.raises(RequirementError, match=r"Cells 1 and 3 of two\.ipynb"):
        cells.notebook_block(path)


def test_a_cell_that_ran_comes_before_the_file(tmp_path: Path) -> None:
    """The file is as old as the last save."""
    path = notebook(tmp_path / "old.ipynb", BLOCK)
    ran = ["%zs_install", BLOCK.replace("one", "two"), BLOCK.replace("one", "three")]
    assert gather(notebook=path, executed=ran).specs == ("two",)
    assert gather(notebook=path, executed=["x = 1"]).specs == ("one",)
    assert gather(["named"], notebook=path, executed=ran).specs == ("named",)


def test_a_file_that_is_no_notebook_has_no_block(tmp_path: Path) -> None:
    (tmp_path / "a.ipynb").write_text("[]")
    assert cells.notebook_block(tmp_path / "a.ipynb") is None
    assert cells.notebook_block(tmp_path / "none.ipynb") is None


def test_a_script_that_nobody_has_open_gets_the_block(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("#!/usr/bin/env python\nprint()\n")
    script.chmod(0o755)
    cells.save(script, ["one"])
    cells.save(script, ["two"])
    assert gather(start=script).specs == ("one", "two")
    assert script.read_text().startswith("#!/usr/bin/env python\n# /// script\n")
    assert script.stat().st_mode & 0o777 == 0o755
    assert [path.name for path in tmp_path.iterdir()] == ["a.py"]


def test_a_notebook_that_nobody_has_open_gets_the_block(tmp_path: Path) -> None:
    path = tmp_path / "a.ipynb"
    made = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("x = 'ü'")])
    nbformat.write(made, path)
    cells.save(path, ["one"])
    cells.save(path, ["two"])
    found = nbformat.read(path, as_version=4)
    nbformat.validate(found)
    assert [each.source for each in found.cells][1:] == ["x = 'ü'"]
    assert found.cells[0].source.endswith("# ///\n%zs_install")
    assert gather(notebook=path).specs == ("one", "two")


@pytest.mark.parametrize(("name", "text"), [("a.txt", ""), ("a.ipynb", "no"), ("a.ipynb", "[]")])
def test_other_files_are_left_alone(tmp_path: Path, name: str, text: str) -> None:
    path = tmp_path / name
    path.write_text(text)
    with pytest.raises(RequirementError):
        cells.save(path, ["one"])
    assert path.read_text() == text
