"""One page on which the panel is put into each of its states.

What it shows comes from status files, which are real, and from answers that are given in the
server's place: a GPU, five hundred snapshots and a restore that fails are not to be had at will.
"""

from __future__ import annotations

import contextlib
import time
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from playwright.sync_api import Locator, Page, Route, expect

from tests.e2e.notebook import Notebook
from tests.servers.jupyter import ROOT, Jupyter
from zerostart_jupyter.core.events import Event, Hub, State
from zerostart_jupyter.core.status import StatusFile

Answer = Callable[[], dict[str, Any]]  # what Playwright's `Route.fulfill` takes
MIB = 1 << 20
AXE = ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js"
OURS = [
    "#zerostart-panel",
    ".jp-Dialog",
    ".jp-Zerostart-mark-undo",
    ".jp-Zerostart-offer",
    ".jp-Zerostart-progress",
    ".zs-progress",
]

NO_GPU = {
    "ok": False,
    "reason": "This machine has no NVIDIA driver.",
    "remedy": "Installs, CPU loads and snapshots work all the same.",
    "devices": [],
    "kernels": [],
    "parked": [],
}
OFFERS = """
from IPython.display import display
def offer(module, distribution, known):
    told = {"module": module, "distribution": distribution, "known": known}
    kind = "application/vnd.zerostart.missing+json"
    display({kind: told, "text/plain": distribution}, raw=True)
offer("cv2", "opencv-python", True)
offer("unheard_of", "unheard-of", False)
"""
PROGRESS = """
import time
from zerostart_jupyter.core.events import Event, Hub, State
from zerostart_jupyter.jupyter.display import CellDisplay
hub = Hub()
CellDisplay(hub).open()
def tell(title, state, done, ago):
    hub.emit(Event(title, "load", title, "", state, done, 8 << 20, "bytes", time.time() - ago))
for title, state, done in [("tokens", State.DONE, 8 << 20), ("embeddings", State.RUNNING, 3 << 20)]:
    tell(title, State.WAITING, 0, ago=2)
    tell(title, state, done, ago=0)
hub.flush()
"""
CELLS = ["rows = [1, 2]", "import threading", "total = 3", OFFERS.strip(), PROGRESS.strip()]
SECOND = """
async () => {
    const {kernels, sessions} = jupyterapp.serviceManager;
    const name = 'evaluation.ipynb';
    const about = {name, path: name, type: 'notebook', kernel: {name: 'python3'}};
    const {kernel} = await sessions.startNew(about);
    await kernels.refreshRunning();
    return kernel.id;
}
"""


@dataclass
class Stage:
    """A page on a notebook with a kernel, and what its server is said to answer."""

    page: Page
    lab: Jupyter
    snapshots: list[dict[str, Any]] = field(default_factory=list)
    gpu: dict[str, Any] = field(default_factory=lambda: dict(NO_GPU))
    restore: dict[str, Any] = field(default_factory=dict)  # status and json of the answer
    second: str = ""  # the id of the server's other kernel

    def open(self) -> None:
        """Begin to answer; the page is not there yet."""
        for path, answer in {
            "snapshots?*": lambda: {"json": {"snapshots": self.snapshots}},
            "gpu?*": lambda: {"json": self.gpu},
            "doctor?*": lambda: {"json": {"capabilities": FOUND}},
            "kernels/*/restore?*": lambda: self.restore,
        }.items():
            self.page.route(f"**/zerostart/api/{path}", answering(answer))
        self.page.clock.install()

    @property
    def kernel(self) -> str:
        """The id of the notebook's kernel."""
        context = "jupyterapp.shell.currentWidget.sessionContext"
        return str(self.page.evaluate(f"{context}.session.kernel.id"))

    def region(self, name: str) -> Locator:
        """A section of the panel."""
        return self.page.get_by_role("region", name=name)

    def refresh(self) -> None:
        """Have the panel ask for everything."""
        self.page.evaluate("jupyterapp.commands.execute('zerostart:refresh')")

    def show(self, *snapshots: dict[str, Any], gpu: dict[str, Any] | None = None) -> None:
        """Have the panel show these snapshots and this GPU."""
        self.snapshots, self.gpu = list(snapshots), gpu or dict(NO_GPU)
        self.refresh()

    def theme(self, name: str) -> None:
        """JupyterLab in another theme; `forced` is the light one in the system's own colours."""
        forced = name == "forced"
        self.page.emulate_media(forced_colors="active" if forced else "none")
        theme = "JupyterLab Light" if forced else f"JupyterLab {name}"
        self.page.evaluate(
            "theme => jupyterapp.commands.execute('apputils:change-theme', {theme})", theme
        )
        expect(self.page.locator("body")).to_have_attribute("data-jp-theme-name", theme)

    def violations(self) -> list[Any]:
        """What axe-core has against what is ours in the page: each rule, and where it is broken."""
        if not self.page.evaluate("'axe' in window"):
            self.page.add_script_tag(path=AXE)
        found = self.page.evaluate(
            """ours => axe.run({
                include: ours.filter(each => document.querySelector(each)).map(each => [each])
            })""",
            OURS,
        )
        return [
            (each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]
        ]


def answering(answer: Answer) -> Callable[[Route], None]:
    """A handler that answers in the server's place what is to be answered by then."""
    return lambda route: route.fulfill(**answer())


@contextlib.contextmanager
def writing(lab: Jupyter, kernel: str, **about: Any) -> Iterator[Hub]:
    """A hub whose events go to the status file of the kernel with this id."""
    hub = Hub(interval=0.01)
    status = StatusFile(lab.status / f"kernel-{kernel}", "kernel", {}, hub)
    for name, value in about.items():
        status.note(name, value)
    try:
        yield hub
    finally:
        status.close()


@contextlib.contextmanager
def busy(lab: Jupyter, kernel: str = "busy") -> Iterator[Hub]:
    """A kernel in the midst of an install and a load, with work behind it that went each way."""
    now = time.time()
    with writing(lab, kernel) as hub:

        def tell(work: str, title: str, item: str, state: State, ago: float, **more: Any) -> None:
            kind = work.partition("-")[0]
            step = {"done": 0, "total": None, "unit": "bytes", **more}
            hub.emit(Event(work, kind, title, item, state, time=now - ago, **step))

        model = "all-minilm-l6-v2/model.safetensors"
        tell("load-1", model, "", State.WAITING, 60)
        tell("load-1", model, "", State.DONE, 59.93, done=91 * MIB, total=91 * MIB)
        tell("install-0", "jax", "", State.WAITING, 40)
        tell("install-0", "jax", "", State.CANCELLED, 38, error="cancelled")
        full = "There is no space left on the disk. Free 2.1 GiB and save it again."
        tell("snapshot-1", "before-training", "", State.WAITING, 30)
        tell("snapshot-1", "before-training", "", State.FAILED, 29.5, unit="steps", error=full)
        wheels = "torch, transformers"
        tell("install-1", wheels, "", State.WAITING, 2.4)
        tell("install-1", wheels, "numpy", State.DONE, 1.0, done=16 * MIB, total=16 * MIB)
        tell("install-1", wheels, "torch", State.RUNNING, 0.1, done=300 * MIB, total=800 * MIB)
        tell("install-1", wheels, "", State.RUNNING, 0, done=412 * MIB, total=1240 * MIB)
        tell("load-2", "Qwen/Qwen3-8B", "", State.WAITING, 0)
        yield hub


def snapshot(name: str, *, ago: float = 3600, **more: Any) -> dict[str, Any]:
    """A snapshot as the server lists it, taken so many seconds ago."""
    return {
        "name": name,
        "id": f"id-{name}",
        "tier": "process",
        "created": time.time() - ago,
        "notebook": "training.ipynb",
        "bytes": 300 * MIB,
        "gpu_bytes": 0,
        "parent": None,
        "kernel_seconds": 75.0,
        "restore_seconds": 0.6,
        "trusted": True,
        "reason": "",
        **more,
    }


def several() -> list[dict[str, Any]]:
    """A snapshot of each sort."""
    portable = {"tier": "portable", "reason": "no process can be dumped here"}
    long = "a-name-as-long-as-names-may-be-which-is-sixty-four-characters-ok"
    return [
        snapshot("trained", ago=50, bytes=9_000 * MIB, gpu_bytes=16_384 * MIB, restore_seconds=7.2),
        snapshot("loaded", ago=4000, notebook="experiments/2026/a long title of a notebook.ipynb"),
        snapshot("by-its-names", ago=90_000, bytes=3 * MIB, kernel_seconds=0.2, **portable),
        snapshot("of-a-colleague", ago=200_000, trusted=False, **portable),
        snapshot(long, ago=900_000),
    ]


def gpu(kernel: str, parked: str) -> dict[str, Any]:
    """Two devices; on one of them a kernel and one of another client's, while a third is parked."""
    device = {"index": 0, "name": "NVIDIA H100 80GB HBM3", "used": 30_000 * MIB}
    total = 81_559 * MIB
    held = {kernel: 19_000 * MIB, "bbbbbbbb-2": 10_000 * MIB}
    return {
        **{"ok": True, "reason": "", "remedy": ""},
        "devices": [{**device, "total": total}, {**device, "index": 1, "used": 0, "total": total}],
        "kernels": [{"kernel": each, "device": 0, "bytes": held[each]} for each in held],
        "parked": [{"kernel": parked, "bytes": 12_000 * MIB}],
    }


FOUND = [
    {"name": name, "ok": ok, "reason": reason, "remedy": remedy}
    for name, ok, reason, remedy in [
        ("python", True, "cpython 3.12", ""),
        ("snapshot: process", True, "CRIU 4.2.1, root may dump and restore", ""),
        (
            "snapshot: park",
            False,
            "This machine has no NVIDIA driver.",
            "Use a machine with a GPU.",
        ),
    ]
]


def set_up(stage: Stage) -> None:
    """A second kernel; and cells that ran in the notebook that is open, with what came of them."""
    notebook = Notebook(stage.page)
    notebook.idle()
    stage.second = stage.page.evaluate(SECOND)
    for code in CELLS:
        notebook.run(code)
    expect(stage.page.locator(".jp-Zerostart-offer")).to_have_count(2)
    for each in ".zs-progress", ".jp-Zerostart-progress":
        expect(stage.page.locator(each)).to_have_count(1)


def points() -> dict[str, Any]:
    """What a kernel says that can undo the first of `CELLS`, but the second, which had a thread."""
    ran = [[number, zlib.crc32(source.encode())] for number, source in enumerate(CELLS, 1)]
    why = "this kernel had the thread 'Thread-7'"
    return {
        "on": True,
        "bytes": 4096,
        "cells": [ran[0], ran[2]],
        "gaps": [[*ran[1], why]],
        "undone": [ran[3]],
    }
