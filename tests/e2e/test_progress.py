"""The bar in a cell goes on while its kernel is busy, and its button ends the work."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit, end_kernels
from tests.e2e.notebook import Notebook, output, write
from tests.e2e.stage import AXE
from tests.install.wheels import make
from tests.servers.index import Index, serving
from tests.servers.jupyter import Jupyter, until

BAR = ".jp-Zerostart-progress"


@pytest.fixture
def index() -> Iterator[Index]:
    """One distribution, which would take half a minute to arrive."""
    table = np.random.default_rng(1).bytes(16 << 20)
    files = {"sentences.py": b"much = 1\n", "sentences.bin": table}
    with serving(make("sentences", files=files)) as running:
        running.default.pace, running.default.ranges_told = 1 << 19, True
        yield running


def test_an_install_is_cancelled_where_it_began(
    lab: Jupyter, visit: Visit, app: str, index: Index, keep: Callable[[Page, str], Path]
) -> None:
    page = visit(f"{app}/{write(lab.home / 'notebooks', 'progress.ipynb')}")
    notebook = Notebook(page)
    notebook.idle()
    notebook.run(f"import os; os.environ['UV_INDEX_URL'] = {index.url!r}")
    began = notebook.run("%load_ext zerostart\n%zs_install sentences")
    waits = notebook.begin("import sentences")
    bar = output(began).get_by_role("progressbar", name="Installing sentences")

    def done() -> int:
        return int(bar.get_attribute("value") or 0)

    before = done()
    until(lambda: done() > before, "the bar to move while the kernel waits")
    expect(waits.locator(".jp-InputPrompt")).to_have_text("[*]:")
    keep(page, "progress-in-a-cell")
    page.add_script_tag(path=AXE)
    found = page.evaluate(f"axe.run({{include: [['{BAR}']]}})")
    assert found["violations"] == []

    output(began).get_by_role("button", name="Cancel: Installing sentences").click()
    expect(page.locator(BAR)).to_have_count(0)
    expect(output(began)).to_contain_text("✗ Installing sentences was cancelled.")
    expect(output(waits)).to_contain_text("cancelled", ignore_case=True)
    keep(page, "progress-cancelled")
    end_kernels(lab)
