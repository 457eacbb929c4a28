"""The panel, shown what status files say: in light and dark, by keyboard, to a screen reader."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.e2e.conftest import Visit, show_panel
from tests.servers.jupyter import ROOT, Jupyter
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.events import Event, Hub, State, operation
from zerostart_jupyter.core.status import StatusFile

MIB = 1 << 20
Keep = Callable[[Page, str], Path]


@contextlib.contextmanager
def kernel(lab: Jupyter, name: str) -> Iterator[Hub]:
    """A hub whose events go to the status file of the kernel with this id."""
    hub = Hub(interval=0.01)
    status = StatusFile(lab.status / f"kernel-{name}", "kernel", {}, hub)
    try:
        yield hub
    finally:
        status.close()


@contextlib.contextmanager
def busy(lab: Jupyter) -> Iterator[Hub]:
    """A kernel in the midst of an install and a load, with work behind it that went either way."""
    now = time.time()
    with kernel(lab, "busy") as hub:

        def tell(work: str, title: str, item: str, state: State, ago: float, **more: Any) -> None:
            kind = work.partition("-")[0]
            step = {"done": 0, "total": None, "unit": "bytes", **more}
            hub.emit(Event(work, kind, title, item, state, time=now - ago, **step))

        model = "all-minilm-l6-v2/model.safetensors"
        tell("load-1", model, "", State.WAITING, 60)
        tell("load-1", model, "", State.DONE, 59.93, done=91 * MIB, total=91 * MIB)
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


def violations(page: Page) -> list[Any]:
    """What axe-core has against the panel: each rule, and where it is broken."""
    page.add_script_tag(path=ROOT / "labextension" / "node_modules" / "axe-core" / "axe.min.js")
    found = page.evaluate("axe.run('#zerostart-panel')")
    return [(each["id"], [node["html"] for node in each["nodes"]]) for each in found["violations"]]


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_first_sight_teaches(visit: Visit, keep: Keep, theme: str) -> None:
    page = visit(theme=theme)
    expect(page.get_by_text("%zs_install torch")).to_be_visible()
    expect(page.get_by_role("region", name="GPU")).to_contain_text("NVIDIA")
    keep(page, f"panel-empty-{theme.lower()}")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_shows_what_kernels_do(lab: Jupyter, visit: Visit, keep: Keep, theme: str) -> None:
    page = visit(theme=theme)
    with busy(lab) as hub:
        activity = page.get_by_role("region", name="Activity")
        bar = activity.get_by_role("progressbar", name="Installing torch, transformers")
        expect(bar).to_have_attribute("value", str(412 * MIB))
        expect(activity).to_contain_text("412.0 MiB of 1.21 GiB · 180.0 MB/s · 4.8 s left")
        expect(activity).to_contain_text("1 of 2 items")
        expect(activity).to_contain_text("Loaded all-minilm-l6-v2/model.safetensors")
        expect(activity).to_contain_text("There is no space left on the disk.")
        keep(page, f"panel-activity-{theme.lower()}")
        with operation("setup", "criu", hub=hub):
            expect(activity.get_by_role("status")).to_have_text("Installing torch, transformers")
            expect(activity.get_by_role("progressbar")).to_have_count(3)
        expect(activity).to_contain_text("Set up criu")
    expect(activity).to_contain_text("Nothing is running.")


def test_running_things_cancel_and_delete_nothing(lab: Jupyter, visit: Visit, keep: Keep) -> None:
    page = visit()
    with kernel(lab, "stopped") as hub:
        with contextlib.suppress(Cancelled), operation("install", "torch", hub=hub) as work:
            expect(page.get_by_role("progressbar", name="Installing torch")).to_be_visible()
            page.evaluate("jupyterapp.commands.execute('running:show-panel')")
            running = page.locator("#jp-running-sessions")
            expect(running.get_by_text("Installing torch")).to_be_visible()
            keep(page, "running")
            running.get_by_role("button", name="Cancel All Operations").click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("all snapshots stay")
            dialog.get_by_role("button", name="Cancel All Operations").click()
            while True:  # until the page's request has come all the way
                page.wait_for_timeout(50)
                work.check()
        expect(running.get_by_text("Installing torch")).to_have_count(0)


def snapshot(number: int) -> dict[str, Any]:
    """A snapshot as the server lists it; higher numbers are newer."""
    return {
        "name": f"run-{number}",
        "id": f"id-{number}",
        "tier": "process",
        "created": time.time() - 86400 + number,
        "notebook": "training.ipynb",
        "bytes": 300 * MIB,
        "gpu_bytes": 0,
        "parent": None,
        "kernel_seconds": 75.0,
    }


def test_many_snapshots(visit: Visit, keep: Keep) -> None:
    page = visit()
    body = {"snapshots": [snapshot(number) for number in range(500)]}
    page.route("**/zerostart/api/snapshots?*", lambda route: route.fulfill(json=body))
    page.evaluate("jupyterapp.commands.execute('zerostart:refresh')")
    section = page.get_by_role("region", name="Snapshots")
    expect(section.get_by_role("listitem")).to_have_count(50)
    expect(section.get_by_role("listitem").first).to_contain_text("run-499")
    keep(page, "panel-many")
    section.get_by_label("Search snapshots").fill("run-7")
    expect(section.get_by_role("listitem")).to_have_count(11)
    section.get_by_label("Search snapshots").fill("")
    section.get_by_role("button", name="Show all 500").click()
    expect(section.get_by_role("listitem")).to_have_count(500)


GPU = {
    "ok": True,
    "reason": "",
    "remedy": "",
    "devices": [{"index": 0, "name": "NVIDIA H100", "used": 30_000 * MIB, "total": 81_559 * MIB}],
    "kernels": [{"kernel": "aaaaaaaa-1", "device": 0, "bytes": 29_000 * MIB}],
    "parked": [{"kernel": "bbbbbbbb-2", "bytes": 12_000 * MIB}],
}


def test_a_gpu_in_high_contrast(lab: Jupyter, visit: Visit, keep: Keep) -> None:
    """What the server would say of a GPU, which this machine need not have."""
    page = visit()
    page.emulate_media(forced_colors="active")
    page.route("**/zerostart/api/gpu?*", lambda route: route.fulfill(json=GPU))
    page.reload()
    show_panel(page)
    section = page.get_by_role("region", name="GPU")
    expect(section).to_contain_text("NVIDIA H100")
    expect(section.get_by_role("progressbar", name="NVIDIA H100")).to_be_visible()
    expect(section.get_by_role("button", name="Park what kernel aaaaaaaa")).to_be_visible()
    expect(section.get_by_role("button", name="Wake what kernel bbbbbbbb")).to_be_visible()
    with busy(lab):
        expect(page.get_by_role("progressbar", name="Installing torch")).to_be_visible()
        assert violations(page) == []
        keep(page, "panel-high-contrast")


def test_a_late_page_shows_what_is_under_way(lab: Jupyter, visit: Visit) -> None:
    with busy(lab):
        page = visit()
        expect(page.get_by_role("progressbar", name="Installing torch")).to_be_visible()
        page.reload()
        show_panel(page)
        expect(page.get_by_role("progressbar", name="Installing torch")).to_be_visible()


def test_cancel_by_keyboard(lab: Jupyter, visit: Visit) -> None:
    page = visit()
    with kernel(lab, "stopped") as hub:
        with contextlib.suppress(Cancelled), operation("install", "torch", hub=hub) as work:
            cancel(page, "Installing torch")
            while True:  # until the page's request has come all the way
                page.wait_for_timeout(50)
                work.check()
        expect(page.get_by_role("region", name="Activity")).to_contain_text("Cancelled after")


def cancel(page: Page, operation: str) -> None:
    """Reach the button with the Tab key, as somebody without a mouse does, and press it."""
    button = page.get_by_role("button", name=f"Cancel: {operation}")
    button.wait_for()
    page.locator('[data-id="zerostart-panel"]').focus()
    for _ in range(20):
        page.keyboard.press("Tab")
        if button.evaluate("button => button === document.activeElement"):
            page.keyboard.press("Enter")
            return
    raise AssertionError("the Tab key does not reach the button")


@pytest.mark.parametrize("theme", ["Light", "Dark"])
def test_accessible(lab: Jupyter, visit: Visit, theme: str) -> None:
    page = visit(theme=theme)
    with busy(lab):
        expect(page.get_by_role("progressbar", name="Installing torch")).to_be_visible()
        told = violations(page)
    assert told == [], json.dumps(told, indent=1)


def test_a_server_without_the_extension_is_explained(lab: Jupyter, visit: Visit) -> None:
    page = visit()
    page.route("**/zerostart/api/**", lambda route: route.fulfill(status=404, body="not here"))
    page.evaluate("jupyterapp.commands.execute('zerostart:refresh').catch(() => undefined)")
    expect(page.get_by_role("alert")).to_contain_text(
        "jupyter server extension enable zerostart_jupyter"
    )
    page.unroute("**/zerostart/api/**")
    page.evaluate("jupyterapp.commands.execute('zerostart:refresh')")
    expect(page.get_by_role("alert")).to_have_text("")


def test_doctor_says_what_works_here(visit: Visit, keep: Keep) -> None:
    page = visit()
    page.evaluate("void jupyterapp.commands.execute('zerostart:doctor')")
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("python")
    keep(page, "doctor")
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)
