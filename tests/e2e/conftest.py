"""A real JupyterLab and a real browser. Screenshots are kept in tests/artifacts/."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Generator, Iterator, Mapping
from pathlib import Path

import pytest
from playwright.sync_api import Browser, BrowserContext, Page, expect, sync_playwright

from tests.e2e.notebook import write
from tests.e2e.stage import Answer, Stage, answering, set_up
from tests.servers.jupyter import PATIENCE, ROOT, TOKEN, Jupyter, serve, share_criu, until

BUILT = ROOT / "zerostart_jupyter" / "labextension"
ARTIFACTS = ROOT / "tests" / "artifacts"
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
ARGUMENTS = [
    "--no-sandbox",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-first-run",
]

SHOW = "zerostart:show-panel"
EXPOSED = [f"--{app}.expose_app_in_browser=True" for app in ("LabApp", "JupyterNotebookApp")]
FAILED = pytest.StashKey[bool]()

Visit = Callable[..., Page]
APPS = ["lab/tree", pytest.param("notebooks", marks=pytest.mark.slow)]  # where notebooks open
NAMED = ["lab", "notebook7"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Everything in this folder drives a browser."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker("e2e")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport]:
    """Let fixtures know how the test ended."""
    report: pytest.TestReport = yield
    if report.when == "call":
        item.stash[FAILED] = report.failed
    return report


@pytest.fixture(scope="module", params=APPS, ids=NAMED)
def app(request: pytest.FixtureRequest) -> str:
    """Below which address a notebook opens: JupyterLab's, or that of Notebook 7."""
    return str(request.param)


@pytest.fixture(scope="module")  # while it runs, no other test can run an event loop
def browser() -> Iterator[Browser]:
    """The machine's own Chromium, without a window."""
    program = next(filter(None, map(shutil.which, NAMES)), None)
    assert program, f"no browser among {', '.join(NAMES)}; install Debian's chromium"
    expect.set_options(timeout=PATIENCE * 1000)
    with sync_playwright() as playwright:
        running = playwright.chromium.launch(executable_path=program, args=ARGUMENTS)
        yield running
        running.close()


def settings(home: Path, plugin: str, **values: object) -> None:
    """What the user has set in JupyterLab's settings editor."""
    extension, name = plugin.split(":")
    path = home / "config" / "lab" / "user-settings" / extension / f"{name}.jupyterlab-settings"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(values))


def install(home: Path) -> None:
    """Put the panel as it was built from this checkout where a JupyterLab of this home finds it."""
    assert (BUILT / "package.json").exists(), "the panel is not built: run `make setup`"
    (home / "data" / "labextensions").mkdir(parents=True)
    (home / "data" / "labextensions" / "zerostart-jupyter").symlink_to(BUILT)
    quiet = {"fetchNews": "false", "checkForUpdates": False}
    settings(home, "@jupyterlab/apputils-extension:notification", **quiet)


@contextlib.contextmanager
def started(home: Path) -> Iterator[Jupyter]:
    """A JupyterLab with the panel, in a home of its own."""
    install(home)
    share_criu(home / "cache")
    with serve(home, module="jupyterlab", options=EXPOSED) as running:
        yield running


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A JupyterLab with the panel."""
    with started(tmp_path_factory.mktemp("lab")) as running:
        yield running


def end_kernels(lab: Jupyter) -> None:
    """The next page begins with a kernel in which nothing has happened."""
    with lab.client() as http:
        for session in http.get("api/sessions").json():
            http.delete(f"api/sessions/{session['id']}").raise_for_status()


def show_panel(page: Page) -> None:
    """Once JupyterLab stands, have the panel opened by its command."""
    page.wait_for_function("window.jupyterapp !== undefined")

    def shown() -> bool:
        page.evaluate(f"jupyterapp.restored.then(() => jupyterapp.commands.execute('{SHOW}'))")
        page.wait_for_timeout(300)  # Notebook 7 closes its sidebars once it has begun
        return page.locator("#zerostart-panel").is_visible()

    until(shown, "the panel to open")


@pytest.fixture
def visit(lab: Jupyter, browser: Browser, request: pytest.FixtureRequest) -> Iterator[Visit]:
    """Open JupyterLab in a fresh browser profile, with the panel to be seen."""
    contexts: list[BrowserContext] = []

    def go(path: str = "lab", *, theme: str = "Light") -> Page:
        settings(lab.home, "@jupyterlab/apputils-extension:themes", theme=f"JupyterLab {theme}")
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        context.set_default_timeout(PATIENCE * 1000)
        contexts.append(context)
        page = context.new_page()
        page.goto(f"{lab.url}{path}?token={TOKEN}&reset")
        show_panel(page)
        return page

    yield go
    for number, context in enumerate(contexts):
        for page in context.pages if request.node.stash.get(FAILED, False) else ():
            ARTIFACTS.mkdir(exist_ok=True)
            page.screenshot(path=ARTIFACTS / f"failed-{request.node.name}-{number}.png")
        context.close()


@contextlib.contextmanager
def staged(
    lab: Jupyter, browser: Browser, app: str, name: str, answers: Mapping[str, Answer] = {}
) -> Iterator[Stage]:
    """A page on a notebook of this name, set up; `answers` are given in the server's place."""
    write(lab.home / "notebooks", name)
    context = browser.new_context(viewport={"width": 1280, "height": 800})
    context.set_default_timeout(PATIENCE * 1000)
    stage = Stage(context.new_page(), lab)
    stage.open()
    for path, answer in answers.items():
        stage.page.route(path, answering(answer))
    stage.page.goto(f"{lab.url}{app}/{name}?token={TOKEN}&reset")
    show_panel(stage.page)
    set_up(stage)
    yield stage
    context.close()
    end_kernels(lab)


@pytest.fixture(scope="module")
def shared(lab: Jupyter, browser: Browser, app: str) -> Iterator[Stage]:
    """One page for a whole module: JupyterLab takes longer to load than most tests to run."""
    with staged(lab, browser, app, "training.ipynb") as stage:
        yield stage


@pytest.fixture
def stage(shared: Stage, request: pytest.FixtureRequest) -> Iterator[Stage]:
    """The shared page as a person sees the panel first: nothing has happened yet."""
    shared.theme("Light")
    shared.show()
    yield shared
    if request.node.stash.get(FAILED, False):
        ARTIFACTS.mkdir(exist_ok=True)
        shared.page.screenshot(path=ARTIFACTS / f"failed-{request.node.name}.png")


@pytest.fixture
def keep(request: pytest.FixtureRequest) -> Callable[[Page, str], Path]:
    """Keep a screenshot under a name."""
    of = "app" in request.fixturenames and request.getfixturevalue("app") == "notebooks"

    def shoot(page: Page, name: str) -> Path:
        ARTIFACTS.mkdir(exist_ok=True)
        path = ARTIFACTS / f"{name}{'-notebook-7' if of else ''}.png"
        page.screenshot(path=path, animations="disabled")
        return path

    return shoot
