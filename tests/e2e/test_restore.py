"""Snapshots from the panel, with real kernels: there and back again."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.conftest import Visit, end_kernels
from tests.e2e.notebook import Notebook, from_palette, number, output, told, write
from tests.install.wheels import make, noise
from tests.servers.index import serving
from tests.servers.jupyter import Jupyter, environment
from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.status import StatusFile

pytestmark = pytest.mark.criu
Keep = Callable[[Page, str], Path]
SOON = 10_000  # milliseconds; what the panel is not told of it finds every half a minute


@pytest.fixture
def tidy(lab: Jupyter) -> Iterator[None]:
    """No kernel and no snapshot is left to the next test."""
    yield
    end_kernels(lab)
    with lab.client() as http:
        for snapshot in http.get("zerostart/api/snapshots").json()["snapshots"]:
            http.delete(f"zerostart/api/snapshots/{snapshot['name']}").raise_for_status()


@pytest.fixture
def page(lab: Jupyter, visit: Visit, app: str, tidy: None, request: pytest.FixtureRequest) -> Page:
    """JupyterLab or Notebook 7 on a notebook of the test's own."""
    name = write(lab.home / "notebooks", f"{request.node.originalname}.ipynb")
    opened = visit(f"{app}/{name}")
    Notebook(opened).idle()
    return opened


def save(notebook: Notebook, name: str) -> Locator:
    """Make something worth keeping, and keep it; returns the cell that saved."""
    notebook.run("answer = 6 * 7")
    notebook.run("%load_ext zerostart")
    cell = notebook.run(f"%zs_snapshot save {name}")
    expect(output(cell)).to_contain_text(f"Saved snapshot '{name}'")
    return cell


def restore(page: Page, name: str) -> None:
    """Click Restore, and agree."""
    page.get_by_role("button", name=f"Restore {name} here").click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(told(page, f"Restored {name} in")).to_be_visible()


def test_a_restarted_kernel_gets_its_state_back(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    saved = save(notebook, "ready")
    card = page.get_by_role("region", name="Snapshots").get_by_role("listitem", name="ready")
    expect(card).to_contain_text("MiB")
    expect(card).to_contain_text("test_a_restarted_kernel_gets_its_state_back.ipynb")

    notebook.restart()
    expect(output(notebook.run("answer"))).to_contain_text("NameError")

    page.get_by_role("button", name="Restore ready here").click()
    keep(page, "restore-asks")
    page.get_by_role("button", name="Cancel").click()
    expect(output(notebook.run("answer"))).to_contain_text("NameError")

    restore(page, "ready")
    after = notebook.run("print(answer)")
    expect(output(after)).to_have_text("42")
    assert number(after) == number(saved) + 1
    keep(page, "restored")
    assert number(notebook.run("answer += 1")) == number(saved) + 2


def test_a_restore_by_keyboard(page: Page) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    notebook.run("answer = 0")
    page.get_by_role("button", name="Restore ready here").focus()
    page.keyboard.press("Enter")
    agree = page.get_by_role("dialog").get_by_role("button", name="Restore")
    expect(agree).to_be_focused()
    page.keyboard.press("Enter")
    expect(told(page, "Restored ready in")).to_be_visible()
    expect(output(notebook.run("print(answer)"))).to_have_text("42")


def test_a_cell_restores_and_is_answered(page: Page) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    notebook.run("answer = 0")
    notebook.run("%zs_snapshot restore ready")
    expect(output(notebook.run("print(answer)"))).to_have_text("42")
    expect(page.get_by_role("region", name="Snapshots")).to_contain_text(
        "Restores into test_a_cell"
    )


def test_a_busy_kernel_is_restored_too(page: Page) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    spinning = notebook.begin("while True: pass")
    expect(spinning.locator(".jp-InputPrompt")).to_have_text("[*]:")
    restore(page, "ready")
    expect(spinning.locator(".jp-InputPrompt")).not_to_have_text("[*]:")
    expect(output(notebook.run("print(answer)"))).to_have_text("42")


def test_other_tabs_go_on_with_the_restored_kernel(
    page: Page, visit: Visit, app: str, request: pytest.FixtureRequest
) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    other = Notebook(visit(f"{app}/{request.node.originalname}.ipynb"))
    other.idle()
    notebook.run("answer = 0")
    restore(page, "ready")
    expect(output(other.run("print('other', answer)"))).to_have_text("other 42")


def test_a_snapshot_opens_as_a_new_kernel_beside_the_old_one(
    page: Page, app: str, keep: Keep
) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    notebook.run("answer = 0")
    fresh_page = opened_as_new(page, "ready", app)
    fresh = Notebook(fresh_page)
    fresh.idle()
    expect(output(fresh.run("print(answer)"))).to_have_text("42")
    keep(fresh_page, "new-kernel")
    if fresh_page is page:
        page.get_by_role("tab", name="test_a_snapshot_opens").click()
    expect(output(notebook.run("print(answer)"))).to_have_text("0")


def opened_as_new(page: Page, name: str, app: str) -> Page:
    """Where the snapshot's own notebook opens: a tab in JupyterLab, a page in Notebook 7."""
    button = page.get_by_role("button", name=f"Open {name} as new kernel")
    if app == "notebooks":
        with page.context.expect_page() as fresh:
            button.click()
        fresh.value.wait_for_function("window.jupyterapp !== undefined")
        return fresh.value
    button.click()
    page.get_by_role("tab", name="Untitled.ipynb").wait_for()
    return page


def test_the_panel_is_in_notebook_7_too(lab: Jupyter, visit: Visit, tidy: None, keep: Keep) -> None:
    name = write(lab.home / "notebooks", "classic.ipynb")
    page = visit(f"notebooks/{name}")
    notebook = Notebook(page)
    notebook.idle()
    save(notebook, "ready")
    notebook.run("answer = 0")
    restore(page, "ready")
    expect(output(notebook.run("print(answer)"))).to_have_text("42")
    keep(page, "notebook-7")

    undo = page.locator('[data-jp-item-name="zerostart-undo"]').get_by_role("button")
    expect(undo).to_be_visible()
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    for entry in ("Undo Cell", "Save Snapshot…", "Restore Snapshot…", "Park GPU"):
        expect(page.locator(".lm-Menu").get_by_text(entry, exact=True)).to_be_visible()


def test_rename_and_delete_ask_and_act(page: Page) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    page.get_by_role("button", name="Rename ready").click()
    page.get_by_label("New name").fill("trained")
    page.keyboard.press("Enter")
    page.get_by_role("button", name="Delete trained").click()
    page.get_by_role("dialog").get_by_role("button", name="Cancel").click()
    page.get_by_role("button", name="Delete trained").click()
    page.get_by_role("dialog").get_by_role("button", name="Delete").click()
    expect(page.get_by_text("No snapshots yet.")).to_be_visible()
    expect(output(notebook.run("print(answer)"))).to_have_text("42")


def test_what_a_cell_and_a_shell_do_to_snapshots_is_seen(page: Page, lab: Jupyter) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    section = page.get_by_role("region", name="Snapshots")
    expect(section.get_by_role("listitem", name="ready")).to_be_visible()
    notebook.run("%zs_snapshot rename ready trained")
    expect(section.get_by_role("listitem", name="trained")).to_be_visible(timeout=SOON)
    command = [sys.executable, "-m", "zerostart", "snapshot", "delete", "trained"]
    subprocess.run(command, env=environment(lab.home), check=True, capture_output=True)
    expect(section).to_contain_text("No snapshots yet.", timeout=SOON)


def save_as(page: Page, name: str) -> None:
    """Go through the menu's *Save Snapshot…*."""
    page.get_by_role("menuitem", name="Kernel", exact=True).click()
    page.locator(".lm-Menu").get_by_text("Save Snapshot…", exact=True).click()
    field = page.get_by_label("Name of the snapshot")
    expect(field).to_have_value("test_a_snapshot_is_saved_from_the_menu_and_another_in_its_place")
    field.fill(name)
    page.keyboard.press("Enter")


def test_a_snapshot_is_saved_from_the_menu_and_another_in_its_place(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    saved = page.get_by_role("region", name="Snapshots").get_by_role("listitem", name="ready")
    notebook.run("answer = 'first'")
    save_as(page, "ready")
    expect(told(page, "Saved snapshot ready")).to_be_visible()
    expect(saved).to_be_visible()

    notebook.run("answer = 'second'")
    for button in ("Cancel", "Replace"):
        save_as(page, "ready")
        dialog = page.get_by_role("dialog").filter(has_text="Replace ready?")
        expect(dialog).to_contain_text("What it holds is discarded.")
        keep(page, "save-replaces")
        dialog.get_by_role("button", name=button).click()
        expect(dialog).to_have_count(0)
    done = page.get_by_role("region", name="Activity").get_by_role("listitem")
    expect(done.filter(has_text="Saved snapshot ready")).to_have_count(2)
    notebook.run("answer = 'third'")
    restore(page, "ready")
    expect(output(notebook.run("print(answer)"))).to_have_text("second")
    expect(saved).to_have_count(1)


def test_a_snapshot_is_chosen_from_the_palette(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    from_palette(page, "Restore Snapshot…")
    expect(told(page, "No snapshots yet.")).to_be_visible()
    save(notebook, "older")
    notebook.run("answer = 0")
    notebook.run("%zs_snapshot save newer")
    from_palette(page, "Restore Snapshot…")
    chooser = page.get_by_role("dialog").get_by_role("combobox")
    expect(chooser).to_have_value("newer")
    chooser.select_option("older")
    keep(page, "restore-chooses")
    page.keyboard.press("Enter")
    page.get_by_role("dialog").filter(has_text="Restore older?").wait_for()
    page.get_by_role("button", name="Restore", exact=True).click()
    expect(told(page, "Restored older in")).to_be_visible()
    expect(output(notebook.run("print(answer)"))).to_have_text("42")


MOVING = """
import threading, time
from zerostart_jupyter.core.events import operation
def work():
    with operation("load", "weights") as mine:
        for step in range(1, 1_000_000):
            mine.check()
            mine.update("", step, 1_000_000)
            time.sleep(0.01)
threading.Thread(target=work, daemon=True).start()
while True: pass
"""


def watch(bar: Locator) -> None:
    """Wait until a bar has shown five values."""
    seen = {float(bar.get_attribute("value") or 0)}
    while len(seen) < 5:
        bar.page.wait_for_timeout(50)
        seen.add(float(bar.get_attribute("value") or 0))


def test_numbers_move_while_the_kernel_is_busy(page: Page, keep: Keep) -> None:
    notebook = Notebook(page)
    notebook.run("%load_ext zerostart")
    cell = notebook.begin(MOVING.strip())
    activity = page.get_by_role("region", name="Activity")
    for place in activity, output(cell):
        watch(place.get_by_role("progressbar", name="Loading weights"))
    keep(page, "busy-kernel")
    activity.get_by_role("button", name="Cancel: Loading weights").click()
    expect(activity).to_contain_text("Cancelled after")
    expect(output(cell).get_by_role("progressbar")).to_have_count(0)


@pytest.fixture
def keeping_the_gil(page: Page) -> str:
    """The id of a kernel in a call of C that gives no thread of Python a turn."""
    notebook = Notebook(page)
    notebook.run("%load_ext zerostart")
    notebook.begin("import ctypes; ctypes.PyDLL(None).sleep(3600)")  # PyDLL keeps it
    return str(page.evaluate("jupyterapp.shell.currentWidget.sessionContext.session.kernel.id"))


def test_numbers_move_while_the_kernel_holds_the_gil(
    page: Page, lab: Jupyter, keeping_the_gil: str
) -> None:
    """What works for a kernel from outside of it, as the dumper does, is shown all the time."""
    hub = Hub(interval=0.01)
    status = StatusFile(lab.status / f"kernel-{keeping_the_gil}", "dumper", {}, hub)
    bar = page.get_by_role("progressbar", name="Saving snapshot frozen")
    with operation("snapshot", "frozen", unit="steps", hub=hub) as work:
        for step in range(1, 6):
            work.update("", step, 6)
            expect(bar).to_have_attribute("value", str(step))
    expect(page.get_by_role("region", name="Activity")).to_contain_text("Saved snapshot frozen")
    status.close()


SECOND = """
async code => {
    const name = 'second.ipynb';
    const about = {name, path: name, type: 'notebook', kernel: {name: 'python3'}};
    const {kernel} = await jupyterapp.serviceManager.sessions.startNew(about);
    kernel.requestExecute({code, store_history: false});
}
"""


@pytest.mark.usefixtures("keeping_the_gil")
def test_another_kernels_install_moves_and_is_cancelled_meanwhile(page: Page, keep: Keep) -> None:
    wheel = make("slowly", files={"slowly.py": b"", "slowly.bin": noise(32 << 20)})
    with serving(wheel) as index:
        index.default.pace = 256 << 10
        install = f"%load_ext zerostart\n%zs_install slowly --wait --index-url {index.url}"
        page.evaluate(SECOND, install)
        activity = page.get_by_role("region", name="Activity")
        watch(activity.get_by_role("progressbar", name="Installing slowly"))
        expect(activity).to_contain_text("second.ipynb")
        keep(page, "beside-a-kernel-that-keeps-the-gil")
        activity.get_by_role("button", name="Cancel: Installing slowly").click()
        expect(activity).to_contain_text("Cancelled after")


def test_the_state_of_now_can_be_kept_first(page: Page) -> None:
    notebook = Notebook(page)
    save(notebook, "ready")
    notebook.run("answer = 'newer'")
    page.get_by_role("button", name="Restore ready here").click()
    dialog = page.get_by_role("dialog")
    dialog.get_by_label("Save the present state as a snapshot first").check()
    dialog.get_by_role("button", name="Restore").click()
    expect(told(page, "Restored ready in")).to_be_visible()
    expect(output(notebook.run("print(answer)"))).to_have_text("42")
    kept = page.get_by_role("button", name="Restore before-ready-")
    kept.click()
    page.get_by_role("dialog").get_by_role("button", name="Restore").click()
    expect(told(page, "Restored before-ready-")).to_be_visible()
    expect(output(notebook.run("print(answer)"))).to_have_text("newer")
