"""The panel in a language whose texts stand in brackets: what stands outside of them is English."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import PurePosixPath
from typing import Any

import pytest
from playwright.sync_api import Browser, expect

from tests.e2e.conftest import staged
from tests.e2e.stage import FOUND, Stage, busy, gpu, points, several, writing
from tests.servers.jupyter import ROOT, Jupyter

SOURCES = ROOT / "labextension" / "src"
TEXT = re.compile(r"""trans\.__\(\s*(?:'([^'\\]*)'|"([^"\\]*)")""")  # as a catalogue is extracted
BRACKETS = re.compile("⟦[^⟦⟧]*⟧")
WORD = re.compile(r"[^\W\d_]{2,}")
UNITS = {"KiB", "MiB", "GiB", "MB", "GB", "min"}
DATA = {"name", "title", "notebook", "reason", "remedy", "error"}  # said by a user or by Python

READ = """
() => {
    const ours = '#zerostart-panel, .jp-Dialog-content, .jp-Zerostart-offer, .jp-InputPrompt,'
        + ' .jp-Zerostart-mark-undo';
    const theirs = 'pre, time, .jp-Dialog-footer .jp-mod-reject, .jp-Dialog-close-button';
    const spoken = ['aria-label', 'aria-valuetext', 'placeholder', 'title'];
    const said = [];
    for (const node of document.querySelectorAll(ours)) {
        for (const each of [node, ...node.querySelectorAll('*')]) {
            if (!each.closest(theirs)) {
                const texts = [...each.childNodes].filter(child => child instanceof Text);
                said.push(...texts.map(text => text.data));
                said.push(...spoken.map(name => each.getAttribute(name) ?? ''));
            }
        }
    }
    const {commands} = jupyterapp;
    const ids = commands.listCommands().filter(id => id.startsWith('zerostart:'));
    said.push(...ids.flatMap(id => [commands.label(id), commands.caption(id)]));
    return said.filter(Boolean);
}
"""


def catalogue() -> dict[str, Any]:
    """What a server with such a language pack answers."""
    texts = {
        one or other
        for path in SOURCES.glob("*.ts*")
        for one, other in TEXT.findall(path.read_text())
    }
    about = {"language": "eo", "plural_forms": "nplurals=1; plural=0;"}
    translated = {"": about, **{text: [f"⟦{text}⟧"] for text in texts}}
    return {"data": {"zerostart_jupyter": translated}, "message": ""}


@pytest.fixture
def stage(lab: Jupyter, browser: Browser, app: str) -> Iterator[Stage]:
    """A page in that language."""
    answers = {"**/api/translations/*": lambda: {"json": catalogue()}}
    with staged(lab, browser, app, "translated.ipynb", answers) as stage:
        yield stage


def data(lab: Jupyter, *bodies: Any) -> list[str]:
    """What is shown as it is, longest first: names, and what the kernel and the server say."""
    with lab.client() as http:
        bodies = (*bodies, http.get("zerostart/api/activity").json())
    found: set[str] = {"translated.ipynb", "evaluation.ipynb"}

    def note(body: dict[str, Any]) -> dict[str, Any]:
        said = [body[key] for key in DATA & body.keys() if body[key]]
        found.update(said, (PurePosixPath(each).name for each in said))
        return body

    json.loads(json.dumps(bodies), object_hook=note)
    return sorted(found, key=len, reverse=True)


def english(texts: list[str], data: list[str]) -> dict[str, list[str]]:
    """The texts with words outside of brackets that are neither data nor units, and these words."""
    found = {}
    for text in texts:
        rest, before = text, ""
        while rest != before:
            rest, before = BRACKETS.sub(" ", rest), rest
        for each in data:
            rest = rest.replace(each, " ")
        words = [word for word in WORD.findall(rest) if word not in UNITS]
        if words:
            found[text] = words
    return found


@contextlib.contextmanager
def dialog(stage: Stage, command: str, **arguments: str) -> Iterator[None]:
    """What a command asks."""
    run = "([id, arguments]) => void jupyterapp.commands.execute(id, arguments)"
    stage.page.evaluate(run, [f"zerostart:{command}", arguments])
    asked = stage.page.locator(".jp-Dialog")
    expect(asked).to_be_visible()
    yield
    expect(asked.locator(":focus")).to_have_count(1)  # or it does not hear a key
    stage.page.keyboard.press("Escape")
    expect(asked).to_have_count(0)


@contextlib.contextmanager
def nothing(stage: Stage) -> Iterator[None]:
    stage.show()
    expect(stage.region("Snapshots")).to_contain_text("%zs_snapshot")
    yield


@contextlib.contextmanager
def everything(stage: Stage) -> Iterator[None]:
    with busy(stage.lab), writing(stage.lab, stage.kernel, undo=points()):
        stage.show(*several(), gpu=gpu(stage.kernel, parked=stage.second))
        expect(stage.page.get_by_role("progressbar", name="torch")).to_be_visible()
        expect(stage.page.locator(".jp-Zerostart-mark-undo")).to_have_count(3)
        yield


def test_nothing_but_names_and_numbers_is_shown_untranslated(stage: Stage) -> None:
    def look(what: str) -> None:
        texts = stage.page.evaluate(READ)
        assert any("⟦" in text for text in texts), what
        assert english(texts, data(stage.lab, stage.snapshots, stage.gpu, FOUND)) == {}, what

    with nothing(stage):
        look("nothing")
        for command in ("undo-cell", "save-snapshot", "doctor"):
            with dialog(stage, command):
                look(command)
    with everything(stage):
        look("everything")
        with dialog(stage, "restore"):
            look("the snapshot to restore")
        for command in ("restore", "rename", "delete"):
            with dialog(stage, command, name="trained"):
                look(command)
