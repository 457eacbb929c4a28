"""Undo where the hand is: the button, the mark beside a cell, the shortcut, the menu."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Visit, end_kernels
from tests.e2e.notebook import Notebook, from_palette, number, output, told, write
from tests.servers.jupyter import Jupyter

Keep = Callable[[Page, str], Path]


@pytest.fixture
def page(lab: Jupyter, visit: Visit, app: str, request: pytest.FixtureRequest) -> Iterator[Page]:
    """JupyterLab or Notebook 7 on a notebook of the test's own, whose kernel keeps undo points."""
    name = write(lab.home / "notebooks", f"{request.node.originalname}.ipynb")
    opened = visit(f"{app}/{name}")
    Notebook(opened).idle()
    yield opened
    end_kernels(lab)


def toolbar(page: Page) -> Locator:
    """The button in the notebook's toolbar."""
    return page.locator('[data-jp-item-name="zerostart-undo"]').get_by_role("button")


def keep_points(page: Page) -> None:
    """Switch undo points on, as the button offers where there are none."""
    toolbar(page).click()
    page.get_by_role("dialog").get_by_role("button", name="Keep undo points").click()
    expect(told(page, "Undo points are on")).to_be_visible()


def mark(page: Page, cell: int) -> Locator:
    """The mark of the cell with this prompt number."""
    return page.get_by_role("button", name=f"Undo cell [{cell}]")


def choose(page: Page, entry: str) -> None:
    """Go to an entry of the open menu by the arrow keys, and take it."""
    active = page.locator(".lm-Menu-item.lm-mod-active")
    for _ in range(page.locator(".lm-Menu-item").count()):
        page.keyboard.press("ArrowUp")
        if entry in active.inner_text():
            break
    page.keyboard.press("Enter")


def test_the_last_cell_is_undone(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    notebook.run("state = 'old'")
    toolbar(page).click()
    keep(page, "undo-offers-points")
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    keep_points(page)

    changed = notebook.run("state = 'new'")
    at = number(changed)
    expect(mark(page, at)).to_be_visible()
    toolbar(page).click()
    expect(page.get_by_text(f"Back to before cell [{at}]: 1 cell undone.")).to_be_visible()
    expect(mark(page, at)).to_have_count(0)
    expect(changed.locator(".jp-InputPrompt")).to_have_css("text-decoration-line", "line-through")
    after = notebook.run("print(state)")
    expect(output(after)).to_have_text("old")
    assert number(after) == at + 2  # prompt numbers go on: the undo has one, too
    keep(page, "undone")

    newer = notebook.run("state = 'newer'")
    page.keyboard.press("Control+Alt+z")
    expect(page.get_by_text(f"Back to before cell [{number(newer)}]")).to_be_visible()
    expect(output(notebook.run("print(state)"))).to_have_text("old")

    page.get_by_role("menuitem", name="Kernel", exact=True).focus()
    page.keyboard.press("ArrowDown")
    menu = page.locator(".lm-Menu")
    for entry in ("Undo Cell", "Keep Undo Points", "Save Snapshot…", "Restore Snapshot…"):
        expect(menu.get_by_text(entry, exact=True)).to_be_visible()
    keep(page, "kernel-menu")
    choose(page, "Park GPU")
    expect(told(page, "NVIDIA driver")).to_be_visible()


def test_the_palette_undoes_a_cell_and_switches_undo_points_off(page: Page) -> None:
    notebook = Notebook(page)
    keep_points(page)
    notebook.run("state = 'old'")
    changed = notebook.run("state = 'new'")
    from_palette(page, "Undo Cell")
    expect(told(page, f"Back to before cell [{number(changed)}]")).to_be_visible()
    expect(output(notebook.run("print(state)"))).to_have_text("old")

    from_palette(page, "Keep Undo Points")
    expect(told(page, "Undo points are off.")).to_be_visible()
    expect(page.locator(".jp-Zerostart-mark-undo")).to_have_count(0)
    toolbar(page).click()
    expect(page.get_by_role("dialog")).to_contain_text("Keep undo points?")


def test_a_mark_goes_back_to_before_its_cell(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    keep_points(page)
    cells = [notebook.run(f"state = {value}") for value in range(4)]
    second = number(cells[1])
    expect(mark(page, second)).to_have_text("↶3")
    keep(page, "undo-marks")
    mark(page, second).click()
    page.get_by_role("dialog").get_by_role("button", name="Undo").click()
    expect(page.get_by_text("3 cells undone.")).to_be_visible()
    expect(output(notebook.run("print(state)"))).to_have_text("0")
    expect(mark(page, number(cells[0]))).to_have_text("↶2")

    page.evaluate("jupyterapp.commands.execute('docmanager:save')")
    page.reload()  # nothing of this lives in the page alone
    Notebook(page).idle()
    expect(mark(page, number(cells[0]))).to_have_text("↶2")


def test_a_cell_that_cannot_be_gone_back_to_says_why(page: Page) -> None:
    notebook = Notebook(page)
    keep_points(page)
    begun = notebook.run("import threading\ndone = threading.Event()")
    notebook.run("thread = threading.Thread(target=done.wait, name='a-thread')\nthread.start()")
    gap = notebook.run("done.set()\nthread.join()\nstate = 'after'")
    notebook.run("state = 'last'")
    said = page.get_by_role("img", name=f"Cell [{number(gap)}] cannot be gone back to: ")
    expect(said).to_have_attribute("title", re.compile("the thread 'a-thread'"))
    expect(mark(page, number(begun))).to_have_text("↶4")
    toolbar(page).click()
    expect(page.get_by_text("1 cell undone.")).to_be_visible()
    toolbar(page).click()
    said = told(page, "the thread 'a-thread'")
    expect(said).to_contain_text("There is no undo point before cell")
