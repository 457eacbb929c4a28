"""The panel, shown what status files say: in each state, by keyboard, to a screen reader."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import show_panel
from tests.e2e.stage import MIB, Stage, busy, gpu, points, several, snapshot, writing
from tests.servers.jupyter import TOKEN
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.events import Operation, operation

Keep = Callable[[Page, str], Path]
State = Callable[[Stage], contextlib.AbstractContextManager[None]]


@contextlib.contextmanager
def first_sight(stage: Stage) -> Iterator[None]:
    stage.show()
    expect(stage.page.get_by_text("%zs_install torch")).to_be_visible()
    expect(stage.page.get_by_text("%zs_snapshot save ready")).to_be_visible()
    activity = stage.region("Activity")
    expect(activity).to_contain_text("2 of 3 checks of this machine pass; not snapshot: park.")
    expect(stage.region("GPU")).to_contain_text("no NVIDIA driver")
    yield


@contextlib.contextmanager
def several_operations(stage: Stage) -> Iterator[None]:
    with busy(stage.lab, stage.kernel):
        activity = stage.region("Activity")
        bar = activity.get_by_role("progressbar", name="Installing torch, transformers")
        expect(bar).to_have_attribute("value", str(412 * MIB))
        for told in (
            "412.0 MiB of 1.21 GiB · 180.0 MB/s · 4.8 s left · 1 of 2 items",
            "Loaded all-minilm-l6-v2/model.safetensors",
            "Could not save snapshot before-training",
            "There is no space left on the disk.",
            "Cancelled after 2.0 s",
        ):
            expect(activity).to_contain_text(told)
        yield


@contextlib.contextmanager
def a_kernel_that_is_not_heard_of(stage: Stage) -> Iterator[None]:
    with busy(stage.lab, "frozen"):
        expect(stage.page.get_by_role("progressbar", name="Installing torch")).to_be_visible()
        stage.page.clock.fast_forward(40_000)
        activity = stage.region("Activity")
        expect(activity).to_contain_text("412.0 MiB of 1.21 GiB · no news for 4")
        expect(activity).not_to_contain_text("MB/s")
        yield


@contextlib.contextmanager
def a_gpu_and_a_parked_kernel(stage: Stage) -> Iterator[None]:
    stage.show(gpu=gpu(stage.kernel, parked=stage.second))
    section = stage.region("GPU")
    expect(section.get_by_role("button", name="Park what training.ipynb has")).to_be_visible()
    expect(section.get_by_role("button", name="Wake what evaluation.ipynb")).to_be_visible()
    expect(section).to_contain_text("kernel bbbbbbbb")  # of another client: to be asked by nobody
    expect(section.get_by_role("button")).to_have_count(2)
    expect(section).to_contain_text("No kernel holds any of it.")
    yield


@contextlib.contextmanager
def snapshots_of_each_sort(stage: Stage) -> Iterator[None]:
    stage.show(*several())
    section = stage.region("Snapshots")
    trained = section.get_by_role("listitem", name="trained")
    expect(trained).to_contain_text("8.79 GiB · GPU 16.00 GiB · whole process")
    expect(trained).to_contain_text("Back in about 7 s; running took 1 min 15 s")
    expect(section.get_by_role("listitem", name="of-a-colleague")).to_contain_text("--trust")
    yield


@contextlib.contextmanager
def five_hundred_snapshots(stage: Stage) -> Iterator[None]:
    stage.show(*[snapshot(f"run-{number}", ago=86400 - number) for number in range(500)])
    expect(stage.region("Snapshots").get_by_role("listitem")).to_have_count(50)
    yield


@contextlib.contextmanager
def a_restore_being_confirmed(stage: Stage) -> Iterator[None]:
    stage.show(snapshot("trained"))
    stage.page.get_by_role("button", name="Restore trained here").click()
    dialog = stage.page.get_by_role("dialog")
    expect(dialog).to_contain_text("is discarded; the notebook itself stays as it is")
    expect(dialog.get_by_label("Save the present state as a snapshot first")).to_be_visible()
    yield
    stage.page.keyboard.press("Escape")
    expect(dialog).to_have_count(0)


@contextlib.contextmanager
def a_restore_that_failed(stage: Stage) -> Iterator[None]:
    stage.show(snapshot("trained"))
    missing = "Snapshot 'trained' needs model.safetensors, which has changed since it was saved."
    remedy = "Put the file back, or save a new snapshot."
    stage.restore = {"status": 409, "json": {"message": missing, "remedy": remedy}}
    stage.page.get_by_role("button", name="Restore trained here").click()
    stage.page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    toast = stage.page.locator(".jp-toast-message")
    expect(toast).to_have_text(f"{missing} {remedy}")
    yield
    stage.page.get_by_role("button", name="Hide notification").click()
    expect(toast).to_have_count(0)


@contextlib.contextmanager
def marks_with_a_gap(stage: Stage) -> Iterator[None]:
    with writing(stage.lab, stage.kernel, undo=points()):
        button = stage.page.get_by_role("button", name="Undo cell [1] and what ran after it")
        expect(button).to_have_text("↶3")
        gap = "Cell [2] cannot be gone back to: this kernel had the thread 'Thread-7'."
        expect(stage.page.get_by_role("img", name=gap)).to_be_visible()
        last = stage.page.locator(".jp-CodeCell").nth(3).locator(".jp-InputPrompt")
        expect(last).to_have_css("text-decoration-line", "line-through")
        yield
    expect(button).to_have_count(0)


@contextlib.contextmanager
def progress_in_a_cell(stage: Stage) -> Iterator[None]:
    cell = stage.page.locator(".jp-CodeCell").filter(has=stage.page.locator(".zs-progress"))
    bar = cell.get_by_role("progressbar", name="embeddings")
    bar.scroll_into_view_if_needed()
    expect(bar).to_have_attribute("value", re.compile(str(3 * MIB)))
    expect(cell).to_contain_text("✓ Loaded tokens: 8.0 MiB in 2.0 s")
    expect(cell.get_by_role("status").filter(has=bar)).to_have_count(0)  # it would be read out
    yield


@contextlib.contextmanager
def what_doctor_found(stage: Stage) -> Iterator[None]:
    stage.show()
    stage.region("Activity").get_by_role("button", name="What works here").click()
    dialog = stage.page.get_by_role("dialog")
    expect(dialog).to_contain_text("Use a machine with a GPU.")
    yield
    dialog.get_by_role("button", name="Close").click()
    expect(dialog).to_have_count(0)


@contextlib.contextmanager
def a_server_without_the_extension(stage: Stage) -> Iterator[None]:
    everything = "**/zerostart/api/**"
    stage.page.route(everything, lambda route: route.fulfill(status=404, body="not here"))
    stage.page.evaluate("jupyterapp.commands.execute('zerostart:refresh').catch(() => undefined)")
    alert = stage.page.locator("#zerostart-panel").get_by_role("alert")
    try:
        expect(alert).to_contain_text("jupyter server extension enable zerostart_jupyter")
        yield
    finally:
        stage.page.unroute(everything)
    stage.refresh()
    expect(alert).to_have_text("")


STATES: list[State] = [
    first_sight,
    several_operations,
    a_kernel_that_is_not_heard_of,
    a_gpu_and_a_parked_kernel,
    snapshots_of_each_sort,
    five_hundred_snapshots,
    a_restore_being_confirmed,
    a_restore_that_failed,
    marks_with_a_gap,
    progress_in_a_cell,
    what_doctor_found,
    a_server_without_the_extension,
]


@pytest.mark.timeout(600)
@pytest.mark.parametrize("theme", ["Light", "Dark", "Dark High Contrast", "forced"])
def test_each_state_is_told_to_everybody(stage: Stage, keep: Keep, theme: str) -> None:
    """Axe has nothing against it, and a picture of it is kept for whoever can see."""
    stage.theme(theme)
    slug = theme.lower().replace(" ", "-")
    for state in STATES:
        with state(stage):
            keep(stage.page, f"panel-{state.__name__.replace('_', '-')}-{slug}")
            assert stage.violations() == [], state.__name__


def test_a_search_finds_among_many(stage: Stage) -> None:
    with five_hundred_snapshots(stage):
        section = stage.region("Snapshots")
        expect(section.get_by_role("listitem").first).to_contain_text("run-499")
        section.get_by_label("Search snapshots").fill("run-7")
        expect(section.get_by_role("listitem")).to_have_count(11)
        section.get_by_label("Search snapshots").fill("no such")
        expect(section).to_contain_text("No snapshot is called that.")
        section.get_by_label("Search snapshots").fill("")
        section.get_by_role("button", name="Show all 500").click()
        expect(section.get_by_role("listitem")).to_have_count(500)
        section.get_by_role("button", name="Show the newest only").click()


COUNT = """
() => {
    window.said = [];
    const status = document.querySelector('#zerostart-panel [role=status]');
    const note = () => window.said.push(status.textContent);
    const all = {childList: true, characterData: true, subtree: true};
    new MutationObserver(note).observe(status, all);
}
"""


def test_a_screen_reader_hears_of_beginnings_and_ends(stage: Stage) -> None:
    """Progress is in the bar for who asks for it; what is read out of itself does not flood."""
    stage.page.evaluate(COUNT)
    with writing(stage.lab, "talkative") as hub:
        with operation("load", "weights", hub=hub) as work:
            bar = stage.page.get_by_role("progressbar", name="Loading weights")
            for step in range(1, 8):
                work.update("", step * MIB, 8 * MIB)
                expect(bar).to_have_attribute("value", str(step * MIB))
        expect(stage.region("Activity")).to_contain_text("Loaded weights")
    expect(stage.region("Activity")).to_contain_text("Nothing is running.")
    began, ended, *rest = stage.page.evaluate("window.said")
    assert began == "Loading weights"
    assert ended.startswith("Loaded weights. ")
    assert [each for each in rest if each] == []


def cancelled(work: Operation, page: Page) -> None:
    """Until a request of the page has come all the way to the work; raises Cancelled."""
    while True:
        page.wait_for_timeout(50)
        work.check()


def test_one_of_several_kernels_is_cancelled(stage: Stage) -> None:
    activity = stage.region("Activity")
    with writing(stage.lab, "one") as one, writing(stage.lab, "two") as two:
        with operation("install", "numpy", hub=two) as other:
            with contextlib.suppress(Cancelled), operation("install", "torch", hub=one) as work:
                expect(activity.get_by_role("progressbar")).to_have_count(2)
                activity.get_by_role("button", name="Cancel: Installing torch").click()
                cancelled(work, stage.page)
            expect(activity).to_contain_text("Cancelled after")
            expect(activity.get_by_role("progressbar", name="Installing numpy")).to_be_visible()
            other.check()
        expect(activity).to_contain_text("Installed numpy")


def test_running_things_cancel_and_delete_nothing(stage: Stage, app: str, keep: Keep) -> None:
    with running_list(stage, app) as running, writing(stage.lab, "stopped") as hub:
        page = running.page
        with contextlib.suppress(Cancelled), operation("install", "torch", hub=hub) as work:
            expect(running.get_by_text("Installing torch")).to_be_visible()
            keep(page, "running")
            running.get_by_role("button", name="Cancel All Operations").click()
            dialog = page.get_by_role("dialog")
            expect(dialog).to_contain_text("all snapshots stay")
            dialog.get_by_role("button", name="Cancel All Operations").click()
            cancelled(work, page)
        expect(running.get_by_text("Installing torch")).to_have_count(0)


def test_a_kernel_is_asked_to_park_and_to_wake(stage: Stage) -> None:
    """Of no GPU there is nothing to park, as the kernel itself says; and it never slept."""
    stage.show(gpu=gpu(stage.second, parked=stage.second))
    for button, answer in (
        ("Park what evaluation.ipynb has", "This kernel holds no GPU memory."),
        ("Wake what evaluation.ipynb has", "This kernel is awake."),
    ):
        stage.region("GPU").get_by_role("button", name=button).click()
        toast = stage.page.locator(".jp-toast-message").filter(has_text=answer)
        expect(toast).to_be_visible()
        stage.page.get_by_role("button", name="Hide notification").click()
        expect(toast).to_have_count(0)


@contextlib.contextmanager
def running_list(stage: Stage, app: str) -> Iterator[Locator]:
    """What runs: beside the panel in JupyterLab, in Notebook 7 beside the files."""
    if app == "notebooks":
        page = stage.page.context.new_page()
        page.goto(f"{stage.lab.url}tree?token={TOKEN}")
        page.get_by_role("tab", name="Running").click()
        yield page.locator("#jp-running-sessions-tree")
        page.close()
    else:
        stage.page.evaluate("jupyterapp.commands.execute('running:show-panel')")
        yield stage.page.locator("#jp-running-sessions")
        show_panel(stage.page)


FOCUS = """
() => {
    const active = document.activeElement;
    if (!active.closest('#zerostart-panel')) {
        return null;
    }
    const {outlineStyle, outlineWidth} = getComputedStyle(active);
    const name = active.getAttribute('aria-label') ?? active.textContent;
    return {name, seen: outlineStyle !== 'none' && parseFloat(outlineWidth) >= 2};
}
"""


def test_every_control_is_reached_and_used_by_keyboard(stage: Stage) -> None:
    page, press = stage.page, stage.page.keyboard.press
    stage.show(*several(), gpu=gpu(stage.kernel, parked=stage.second))
    with writing(stage.lab, "stopped") as hub:
        with contextlib.suppress(Cancelled), operation("install", "torch", hub=hub) as work:
            page.get_by_role("button", name="Cancel: Installing torch").wait_for()
            controls = page.locator("#zerostart-panel").locator("button, input")
            names = "all => all.map(each => each.getAttribute('aria-label') ?? each.textContent)"
            expected = controls.evaluate_all(names)
            before(page).focus()
            assert [each["name"] for each in through(page)] == expected
            assert len(expected) == 1 + 2 + 5 * 4
            tab_to(page, "Cancel: Installing torch")
            press("Enter")
            cancelled(work, page)
        expect(stage.region("Activity")).to_contain_text("Cancelled after")

    tab_to(page, "Restore trained here")
    dialog = page.get_by_role("dialog")
    press("Enter")
    expect(dialog).to_contain_text("Restore trained?")
    press("Escape")
    expect(dialog).to_have_count(0)
    expect(page.get_by_role("button", name="Restore trained here")).to_be_focused()

    asked = []
    page.on("request", lambda each: asked.append(each.url) if each.method == "POST" else None)
    body = {"id": "r", "kernel": stage.kernel, "snapshot": "trained", "seconds": 0.5}
    stage.restore = {"status": 200, "json": body}
    press("Enter")
    expect(dialog.get_by_role("button", name="Restore")).to_be_focused()
    press("Enter")
    expect(page.locator(".jp-toast-message")).to_contain_text("Restored trained in 0.50 s")
    assert len([each for each in asked if "/restore?" in each]) == 1
    page.get_by_role("button", name="Hide notification").click()

    press("Control+Shift+c")
    palette = page.locator("#modal-command-palette input")
    palette.fill("park gpu")
    expect(page.locator("#modal-command-palette .lm-mod-active")).to_contain_text("Park GPU")
    press("Enter")
    expect(palette).not_to_be_visible()
    said = page.locator(".jp-toast-message").filter(has_text="GPU")
    expect(said).to_be_visible()
    page.get_by_role("button", name="Hide notification").last.click()


def before(page: Page) -> Locator:
    """What has the focus before the panel: its tab, or in Notebook 7 the button that closes it."""
    return page.locator('[data-id="zerostart-panel"], .jp-SidePanel-collapse:visible').first


def through(page: Page) -> list[dict[str, object]]:
    """What the Tab key reaches in the panel, in that order; each must be seen to have the focus."""
    reached = []
    page.keyboard.press("Tab")
    while (focus := page.evaluate(FOCUS)) is not None:
        assert focus["seen"], focus
        reached.append(focus)
        page.keyboard.press("Tab")
    return reached


def tab_to(page: Page, name: str) -> None:
    """Go to a control as somebody without a mouse does."""
    before(page).focus()
    page.keyboard.press("Tab")
    while (focus := page.evaluate(FOCUS)) is not None:
        if focus["name"] == name:
            return
        page.keyboard.press("Tab")
    raise AssertionError(f"the Tab key does not reach {name!r}")
