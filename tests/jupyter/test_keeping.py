"""`%zs_install --save`, and which block `%zs_install` alone reads, in a real kernel."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from IPython.core.interactiveshell import InteractiveShell

from tests.install.wheels import make
from tests.servers.index import Index
from zerostart_jupyter.install import blocks

if TYPE_CHECKING:
    from tests.jupyter.conftest import Kernel

BLOCK = '# /// script\n# dependencies = ["zs-one"]\n# ///\n'


@pytest.fixture
def index() -> Iterator[Index]:
    with Index([make("zs-one"), make("zs-two")]) as running:
        yield running


def replaced(kernel: Kernel, code: str) -> str:
    """What the frontend is asked to write into the cell."""
    _, reply = kernel.attempt(code)
    assert reply["status"] == "ok", reply
    (payload,) = [
        each
        for each in reply["payload"]  # type: ignore[attr-defined]
        if each["source"] == "set_next_input"
    ]
    assert payload["replace"] is True
    return str(payload["text"])


def named(text: str) -> list[str]:
    inside = blocks.body(text)
    assert inside is not None
    return list(blocks.dependencies(blocks.table(inside, "it"), "it"))


def test_the_cell_becomes_the_notebooks_block(kernel: Kernel, index: Index) -> None:
    kernel.run(f"index = {index.url!r}")
    text = replaced(
        kernel, f"# what we need\nx = %zs_install zs-one --save --index-url {index.url} --wait\ny=2"
    )
    assert named(text) == ["zs-one"]
    assert text.endswith(f"# what we need\nx = %zs_install --wait --index-url {index.url}\ny=2")
    kernel.run(text)  # the cell as it now is
    assert "zs_one" in str(kernel.run("import zs_one; print(zs_one.__name__)"))
    again = replaced(kernel, text.replace("--wait", "zs-two --save"))
    assert named(again) == ["zs-one", "zs-two"]
    assert again.count("# /// script") == 1


def test_a_cell_of_requirements_becomes_a_block(kernel: Kernel, index: Index) -> None:
    text = replaced(
        kernel, f"%%zs_install --save --wait --index-url {index.url}\nzs-one # why\n\nzs-two\n"
    )
    assert named(text) == ["zs-one", "zs-two"]
    assert text.endswith(f"# ///\n%zs_install --wait --index-url {index.url}")


def test_a_block_of_another_cell_moves_here(kernel: Kernel, index: Index, private: Path) -> None:
    body = {"cells": [{"cell_type": "code", "source": BLOCK}]}
    (private / "mine.ipynb").write_text(json.dumps(body))
    kernel.run("import os; os.environ['JPY_SESSION_NAME'] = 'elsewhere/mine.ipynb'")
    found, reply = kernel.attempt(f"%zs_install zs-two --save --wait --index-url {index.url}")
    (payload,) = reply["payload"]  # type: ignore[misc]
    assert named(payload["text"]) == ["zs-one", "zs-two"]
    assert "Delete the cell" in str(found)
    assert json.loads((private / "mine.ipynb").read_text()) == body  # it is the frontend's


def test_the_block_of_a_cell_that_ran_counts(kernel: Kernel, index: Index) -> None:
    kernel.run(BLOCK)
    kernel.run(f"%zs_install --wait --index-url {index.url}")
    assert "zs_one" in str(kernel.run("import zs_one; print(zs_one.__name__)"))
    _, reply = kernel.attempt("import zs_two")
    assert reply["ename"] == "ModuleNotFoundError"


def test_nothing_is_installed_until_a_cell_asks(
    kernel: Kernel, index: Index, private: Path
) -> None:
    body = {"cells": [{"cell_type": "code", "source": BLOCK}]}
    (private / "mine.ipynb").write_text(json.dumps(body))
    kernel.run("import os; os.environ['JPY_SESSION_NAME'] = 'mine.ipynb'")
    kernel.run(f"os.environ['UV_DEFAULT_INDEX'] = {index.url!r}")
    kernel.run("%unload_ext zerostart\n%load_ext zerostart")
    kernel.run("x = 1")
    _, reply = kernel.attempt("import zs_one")
    assert reply["ename"] == "ModuleNotFoundError"
    assert not index.requests
    kernel.run("%zs_install --wait")
    assert "zs_one" in str(kernel.run("import zs_one; print(zs_one.__name__)"))


def test_what_cannot_be_saved_is_refused_before_anything_happens(
    kernel: Kernel, index: Index, private: Path
) -> None:
    (private / "req.txt").write_text("zs-one\n")
    for words in ("-r req.txt", "./here", ""):
        _, reply = kernel.attempt(f"%zs_install {words} --save --index-url {index.url}")
        assert reply["ename"] == "RequirementError"
    assert not index.requests


def test_a_terminal_shows_the_block(
    shell: InteractiveShell,
    index: Index,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in ("PATH", "PYTHONPATH"):
        monkeypatch.setenv(name, os.environ[name])
    monkeypatch.setattr(sys, "path", list(sys.path))
    found = shell.run_cell(f"%zs_install zs-one --save --wait --index-url {index.url}")
    assert found.error_in_exec is None
    said = capsys.readouterr().out
    assert named(said[said.index("# /// script") :]) == ["zs-one"]
