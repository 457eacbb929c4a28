"""The tour as a person takes it, on the real index, with its restart."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Visit, started
from tests.e2e.notebook import RAN, Notebook, number, output
from tests.servers.jupyter import ROOT, Jupyter

TOUR = ROOT / "examples" / "tour.ipynb"
LONG = 240_000  # milliseconds; the first imports come over the network


@pytest.fixture
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A JupyterLab that has installed and saved nothing yet."""
    with started(tmp_path_factory.mktemp("lab")) as running:
        yield running


@pytest.fixture
def page(lab: Jupyter, visit: Visit, app: str) -> Page:
    """JupyterLab or Notebook 7 on a copy of the tour."""
    shutil.copy(TOUR, lab.home / "notebooks" / TOUR.name)
    opened = visit(f"{app}/{TOUR.name}")
    Notebook(opened).idle()
    return opened


class Cells:
    """The tour's code cells by what is in them."""

    def __init__(self, page: Page) -> None:
        self._page = page
        self._cells = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")

    def run(self, beginning: str) -> Locator:
        """Run the cell that begins so, as it stands; it must not fail."""
        cell = self.attempt(beginning)
        Notebook(self._page).idle()  # its output has arrived, too
        expect(output(cell)).not_to_contain_text("Error")
        return cell

    def attempt(self, beginning: str) -> Locator:
        """Run the cell that begins so."""
        cell = self._cells.filter(has_text=re.compile(rf"^\s*(\[.*\]:)?\s*{re.escape(beginning)}"))
        cell.locator(".cm-content").click()
        self._page.keyboard.press("Shift+Enter")
        expect(cell.locator(".jp-InputPrompt")).to_have_text(RAN, timeout=LONG)
        return cell


def scores(cell: Locator) -> list[float]:
    """The similarities a cell printed."""
    return [float(found) for found in re.findall(r"(-?\d\.\d{3})  ", output(cell).inner_text())]


@pytest.mark.criu
@pytest.mark.network
@pytest.mark.timeout(600)
def test_the_tour(page: Page, keep: Callable[[Page, str], Path]) -> None:
    cells, notebook = Cells(page), Notebook(page)
    expect(output(cells.run("%load_ext zerostart%zs_install"))).to_contain_text("on their way")
    cells.run("import torch")
    expect(output(cells.run("%zs_load"))).to_contain_text("104 tensors")
    before = scores(cells.run("sentences = ["))
    assert len(before) == 4
    assert before[0] == 1.0
    assert before[1] > before[3] > before[2], "a meal is nearer to eating than a baby is"
    saved = cells.run("%zs_snapshot save tour")
    expect(output(saved)).to_contain_text("Saved snapshot 'tour'")
    expect(page.get_by_role("region", name="Activity")).to_contain_text("Loaded model.safetensors")
    keep(page, "tour-saved")

    notebook.restart()
    expect(output(cells.attempt("again = "))).to_contain_text("NameError")

    page.get_by_role("button", name="Restore tour here").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(page.get_by_text("Restored tour in")).to_be_visible()
    again = cells.run("again = ")
    assert scores(again) == before
    assert number(again) == number(saved) + 1
    keep(page, "tour-restored")
