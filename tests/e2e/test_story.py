"""Install, load, save, restart, restore: the moving picture of the README, as it happens.

Everything in it is real but the index, which is this test's own: pictures are to show no machine's
paths and no registry's name.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator

import numpy as np
import pytest
from playwright.sync_api import Page, expect
from safetensors.numpy import save_file

from tests.e2e.conftest import ARTIFACTS, Visit
from tests.e2e.notebook import Notebook, output, write
from tests.install.wheels import make
from tests.servers.index import Index, serving
from tests.servers.jupyter import Jupyter

STORY = ARTIFACTS / "story"
ASK = """
code => jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
    {code, silent: true, store_history: false}).done.then(() => null)
"""


class Camera:
    """Keeps one picture after another; none may show where it was taken."""

    def __init__(self, page: Page, private: tuple[str, ...]) -> None:
        shutil.rmtree(STORY, ignore_errors=True)
        STORY.mkdir(parents=True)
        self._page = page
        self._private = private
        self._taken = 0

    def shoot(self, name: str) -> None:
        """One more."""
        self._taken += 1
        shown = self._page.locator("body").inner_text()
        assert not [each for each in self._private if each in shown]
        path = STORY / f"{self._taken:02}-{name}.png"
        self._page.screenshot(path=path, animations="disabled")


@pytest.fixture
def index() -> Iterator[Index]:
    """Two distributions, one of some size, which arrive as over an ordinary line."""
    table = np.random.default_rng(1).bytes(16 << 20)
    sentences = make("sentences", files={"sentences.py": b"much = 1\n", "sentences.bin": table})
    vectors = make("vectors", files={"vectors.py": b"dimensions = 384\n"})
    with serving(sentences, vectors) as running:
        running.default.pace, running.default.ranges_told = 2 << 20, True
        yield running


@pytest.mark.slow
@pytest.mark.criu
def test_the_story(lab: Jupyter, visit: Visit, index: Index) -> None:
    folder = lab.home / "notebooks"
    weights = np.random.default_rng(2).standard_normal((8, 4_000_000), dtype=np.float32)
    save_file({f"layer.{n}": row for n, row in enumerate(weights)}, folder / "model.safetensors")
    page = visit(f"lab/tree/{write(folder, 'training.ipynb')}")
    page.set_viewport_size({"width": 920, "height": 580})
    notebook, activity = Notebook(page), page.get_by_role("region", name="Activity")
    notebook.idle()
    page.evaluate(ASK, f"import os; os.environ['UV_INDEX_URL'] = {index.url!r}")
    camera = Camera(page, (str(lab.home), "127.0.0.1", "localhost"))

    notebook.run("%load_ext zerostart\n%zs_install sentences vectors")
    bar = activity.get_by_role("progressbar", name="Installing sentences")
    expect(bar).to_have_attribute("value", re.compile(r"[1-9]\d{6,}"))  # a megabyte or more
    camera.shoot("installing")
    notebook.run("import vectors\nvectors.dimensions")
    camera.shoot("imported-meanwhile")
    expect(activity).to_contain_text("Installed sentences")

    loaded = notebook.run("weights = %zs_load model.safetensors")
    expect(activity).to_contain_text("Loaded model.safetensors")
    expect(output(loaded)).not_to_contain_text("Error")
    notebook.run("total = sum(float(each.sum()) for each in weights.values())\nround(total)")
    camera.shoot("loaded")

    saved = notebook.run("%zs_snapshot save ready")
    expect(output(saved)).to_contain_text("Saved snapshot 'ready'")
    card = page.get_by_role("region", name="Snapshots").get_by_role("listitem", name="ready")
    expect(card).to_contain_text("Back in about")
    camera.shoot("saved")

    notebook.restart()
    lost = notebook.run("round(total)")
    expect(output(lost)).to_contain_text("NameError")
    camera.shoot("restarted")

    page.get_by_role("button", name="Restore ready here").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("Restore ready?")
    camera.shoot("restore-asks")
    dialog.get_by_role("button", name="Restore").click()
    expect(page.locator(".jp-toast-message")).to_contain_text("Restored ready in")
    camera.shoot("restored")
    found = notebook.run("round(total)")
    expect(output(found)).to_have_text(re.compile(r"\[\d+\]:\s*-?\d+\s*"))
    camera.shoot("goes-on")
