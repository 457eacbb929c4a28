"""A notebook as a person works in it: type a cell, run it, read what comes."""

from __future__ import annotations

import re
from pathlib import Path

import nbformat
from playwright.sync_api import Locator, Page, expect

IDLE = """
() => {
  const context = jupyterapp.shell.currentWidget?.sessionContext;
  const kernel = context?.session?.kernel;
  return context?.isReady && kernel?.connectionStatus === 'connected' && kernel.status === 'idle';
}
"""
RAN = re.compile(r"\[\d+\]:")


def write(folder: Path, name: str) -> str:
    """An empty notebook for Python; returns its name."""
    notebook = nbformat.v4.new_notebook()
    notebook.metadata["kernelspec"] = {
        "name": "python3",
        "display_name": "Python 3",
        "language": "python",
    }
    notebook.cells.append(nbformat.v4.new_code_cell(""))
    nbformat.write(notebook, folder / name)
    return name


class Notebook:
    """The notebook that is open in a page."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self._cells = page.locator(".jp-NotebookPanel:not(.lm-mod-hidden) .jp-CodeCell")

    def begin(self, code: str) -> Locator:
        """Type into the last cell and run it, without waiting for its end; returns the cell."""
        self._cells.first.wait_for()
        cell = self._cells.nth(self._cells.count() - 1)
        cell.locator(".cm-content").click()
        self.page.keyboard.insert_text(code)
        self.page.keyboard.press("Shift+Enter")
        return cell

    def run(self, code: str) -> Locator:
        """The same, and wait until it has run."""
        cell = self.begin(code)
        expect(cell.locator(".jp-InputPrompt")).to_have_text(RAN)
        return cell

    def restart(self) -> None:
        """Restart the kernel by the toolbar's button."""
        self.page.locator('[data-jp-item-name="restart"]').get_by_role("button").click()
        self.page.get_by_role("dialog").locator("button.jp-mod-accept").click()
        self.idle()

    def idle(self) -> None:
        """Wait until the kernel is connected and has nothing to do."""
        self.page.wait_for_function(IDLE)


def number(cell: Locator) -> int:
    """A cell's prompt number."""
    return int(re.sub(r"\D", "", cell.locator(".jp-InputPrompt").inner_text()))


def output(cell: Locator) -> Locator:
    """What came of a cell."""
    return cell.locator(".jp-Cell-outputArea")


def from_palette(page: Page, command: str) -> None:
    """Take a command by its name from the command palette."""
    page.keyboard.press("Control+Shift+c")
    palette = page.locator("#modal-command-palette")
    palette.locator("input").fill(command)
    label = palette.locator(".lm-CommandPalette-itemLabel")
    label.filter(has_text=re.compile(f"^{re.escape(command)}$")).click()
    expect(palette.locator("input")).not_to_be_visible()


def told(page: Page, text: str) -> Locator:
    """What JupyterLab's notification says."""
    return page.locator(".jp-toast-message").filter(has_text=text)
