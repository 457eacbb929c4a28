"""The page is loaded anew, and outlives its server."""

from __future__ import annotations

import contextlib
from pathlib import Path
from urllib.parse import urlsplit

from playwright.sync_api import Browser, expect

from tests.e2e.conftest import EXPOSED, install, show_panel
from tests.e2e.stage import MIB, writing
from tests.servers.jupyter import PATIENCE, TOKEN, serve
from zerostart_jupyter.core.events import operation


def test_work_is_shown_after_a_reload_and_by_the_next_server(
    tmp_path: Path, browser: Browser
) -> None:
    """What goes on without a page or a server, as a kernel's work does, is found again."""
    install(tmp_path)
    context = browser.new_context()
    context.set_default_timeout(PATIENCE * 1000)
    page = context.new_page()
    bar = page.get_by_role("progressbar", name="Loading weights")
    alert = page.locator("#zerostart-panel").get_by_role("alert")
    with contextlib.ExitStack() as kernel:
        with serve(tmp_path, module="jupyterlab", options=EXPOSED) as server:
            hub = kernel.enter_context(writing(server, "steady"))
            work = kernel.enter_context(operation("load", "weights", hub=hub))
            page.goto(f"{server.url}lab?token={TOKEN}&reset")
            show_panel(page)
            work.update("", MIB, 8 * MIB)
            expect(bar).to_have_attribute("value", str(MIB))
            page.reload()
            show_panel(page)
            expect(bar).to_have_attribute("value", str(MIB))
        work.update("", 3 * MIB, 8 * MIB)
        page.evaluate("jupyterapp.commands.execute('zerostart:refresh').catch(() => undefined)")
        expect(alert).to_contain_text("The server does not answer the panel")

        port = urlsplit(server.url).port or 0
        with serve(tmp_path, module="jupyterlab", options=EXPOSED, port=port):
            work.update("", 5 * MIB, 8 * MIB)
            expect(bar).to_have_attribute("value", str(5 * MIB))
            expect(alert).to_be_empty()
    context.close()
