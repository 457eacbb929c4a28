"""*Install and re-run* below a cell that failed to import something."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit, end_kernels
from tests.e2e.notebook import Notebook, output, write
from tests.install.wheels import make
from tests.servers.index import Index, serving
from tests.servers.jupyter import Jupyter


@pytest.fixture
def index() -> Iterator[Index]:
    """An index with one distribution that the table knows, and one that it does not."""
    known = make("pytelegrambotapi", files={"telebot.py": b"answer = 42\n"})
    with serving(known, make("unheard-of")) as running:
        yield running


def test_a_missing_import_is_installed_and_run_again(
    lab: Jupyter, visit: Visit, app: str, index: Index, keep: Callable[[Page, str], Path]
) -> None:
    name = write(lab.home / "notebooks", "missing.ipynb")
    page = visit(f"{app}/{name}")
    notebook = Notebook(page)
    notebook.idle()
    notebook.run(f"import os; os.environ['UV_INDEX_URL'] = {index.url!r}")
    notebook.run("%load_ext zerostart")

    guessed = notebook.run("import unheard_of")
    expect(output(guessed)).to_contain_text("which is a guess")
    output(guessed).get_by_role("button", name="Install unheard-of and re-run").click()
    dialog = page.get_by_role("dialog")
    expect(dialog.get_by_role("button", name="Cancel")).to_be_focused()
    keep(page, "missing-guess")
    page.keyboard.press("Enter")
    expect(dialog).to_have_count(0)
    assert not index.requests, "nothing is asked of the index before the user agrees"

    cell = notebook.run("import telebot\nprint(telebot.answer)")
    expect(output(cell)).to_contain_text("telebot is in the distribution pytelegrambotapi.")
    output(cell).get_by_label("Add it to the notebook's dependencies").check()
    keep(page, "missing-known")
    output(cell).get_by_role("button", name="Install pytelegrambotapi and re-run").click()
    first = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell").first
    expect(first).to_contain_text('# dependencies = ["pytelegrambotapi"]')
    again = page.locator(".jp-CodeCell").filter(has_text="print(telebot.answer)")
    expect(output(again)).to_have_text("42")
    keep(page, "missing-installed")
    end_kernels(lab)
