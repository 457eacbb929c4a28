"""Makes this machine ready for `make demo` and `make test`.

    python3 tools/setup.py [dev] [criu] [browser] [frontend] [hub] [kvikio] [vllm]

Needs Python 3.11 and nothing else; what it installs goes into .venv. Where a step needs root and
has none, it says so, and `make test` says which tests that leaves out. `dev` adds what the tests
need, torch among it; the tour does without, to bring torch in itself.
"""

from __future__ import annotations

import ctypes.util
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

if sys.version_info < (3, 11):  # noqa: UP036 -- whoever has an older one should be told
    sys.exit(f"✗ Python 3.11 or newer is needed; {sys.executable} is {sys.version.split()[0]}.")

import pip_configuration
import set_up_kvikio
import set_up_vllm
from steps import (
    PYTHON,
    ROOT,
    VENV,
    Failed,
    Word,
    apt_install,
    digest,
    done,
    main_guard,
    once,
    run,
    say,
    step,
)

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FRONTEND = ROOT / "labextension"
PROXY = ROOT / "tests" / "servers" / "proxy"


def main() -> None:
    wanted = set(sys.argv[1:])
    make_environment()
    install(dev="dev" in wanted)
    if "frontend" in wanted:
        install_frontend()
    if "hub" in wanted:
        install_proxy()
    if "kvikio" in wanted:
        set_up_kvikio.main()
    if "vllm" in wanted:
        set_up_vllm.set_up_sources()
    if "criu" in wanted:
        may_fail("Setting up CRIU", set_up_criu, "tests marked `criu`, and the tour's snapshot")
    if {"criu", "dev"} <= wanted:
        may_fail("Looking for jemalloc", set_up_jemalloc, "tests marked `jemalloc`")
    if "browser" in wanted:
        may_fail("Looking for a browser", set_up_browser, "tests marked `e2e`")


def make_environment() -> None:
    """A virtual environment with uv in it."""
    base = Path(sys.executable).resolve()
    with once("environment", digest([], str(base), sys.version)) as needed:
        if not needed and works():
            return
        with step(f"Making a virtual environment with Python {sys.version.split()[0]} in .venv"):
            if VENV.exists() and not works():
                shutil.rmtree(VENV)
            if not VENV.exists():
                make_venv()
        with step("Installing uv"):
            pip: list[Word] = [PYTHON, "-m", "pip", "--disable-pip-version-check"]
            run([*pip, "install", "--quiet", "uv>=0.11"])


def works() -> bool:
    try:
        ran = subprocess.run([PYTHON, "-c", "import pip"], capture_output=True, check=False)
    except OSError:
        return False
    return ran.returncode == 0


def make_venv() -> None:
    try:
        import ensurepip  # noqa: F401 -- Debian ships it apart from Python
    except ImportError:
        version = f"{sys.version_info.major}.{sys.version_info.minor}"
        say(f"  Python's ensurepip is missing; Debian has it in python{version}-venv.")
        apt_install(f"python{version}-venv")
    run([sys.executable, "-m", "venv", VENV], quiet=True)


def install(*, dev: bool) -> None:
    """The package, editable, with its frontend built; with `dev` also what its tests need."""
    sources = [ROOT / "pyproject.toml", FRONTEND / "package.json", FRONTEND / "yarn.lock"]
    sources += [FRONTEND / "src", FRONTEND / "style"]
    arguments, variables = pip_configuration.for_uv(pip_configuration.read(str(PYTHON)), os.environ)
    stamp = digest([path for path in sources if path.exists()], *arguments)
    if not dev and done("install-dev", stamp):
        return
    with once("install-dev" if dev else "install", stamp) as needed:
        if needed:
            what = " and what its tests need" if dev else ""
            with step(f"Installing zerostart{what}, and building the lab panel"):
                # The build hook keeps a panel that is there, and that may be of older sources.
                shutil.rmtree(ROOT / "zerostart_jupyter" / "labextension", ignore_errors=True)
                uv: list[Word] = [VENV / "bin" / "uv", "pip", "install", "--python", PYTHON]
                uv += [*arguments, "--editable", ".[dev]" if dev else "."]
                run(uv, environ=variables, quiet=not sys.stdout.isatty())


def install_frontend() -> None:
    """The packages that check and test the frontend."""
    sources = [FRONTEND / "package.json", FRONTEND / "yarn.lock", FRONTEND / ".yarnrc.yml"]
    stamp = digest([path for path in sources if path.exists()])
    with once("frontend", stamp) as needed:
        if needed or not (FRONTEND / "node_modules").exists():
            with step("Installing the frontend's packages"):
                run(["jlpm", "install", "--immutable"], folder=FRONTEND, quiet=True)


def install_proxy() -> None:
    """The proxy that JupyterHub puts before its users' servers."""
    sources = [PROXY / "package.json", PROXY / "package-lock.json"]
    with once("hub", digest(sources)) as needed:
        if needed or not (PROXY / "node_modules").exists():
            with step("Installing JupyterHub's proxy"):
                npm: list[Word] = ["npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund"]
                run(npm, folder=PROXY, quiet=True)


def set_up_criu() -> None:
    """A CRIU that is new enough, fetched without root where the machine's own is not."""
    run([VENV / "bin" / "zerostart", "setup", "criu"])


def set_up_jemalloc() -> None:
    """An allocator whose memory is laid out otherwise than glibc's."""
    if ctypes.util.find_library("jemalloc") is None:
        apt_install("libjemalloc2")


def set_up_browser() -> None:
    """A browser for the tests of the lab panel."""
    if browser_is_missing():
        apt_install("chromium", "fonts-dejavu-core", "libatomic1")


def browser_is_missing() -> bool:
    """Whether there is no browser, or what drives it does not start: its node needs libatomic."""
    driver = subprocess.run([VENV / "bin" / "playwright", "--version"], capture_output=True)
    return driver.returncode != 0 or not any(map(shutil.which, BROWSERS))


def may_fail(name: str, work: Callable[[], None], left_out: str) -> None:
    """Do a step whose failure leaves something out and does not end the set-up."""
    try:
        with step(name):
            work()
    except Failed as error:
        say(f"  ! {error}\n  ! Left out: {left_out}.")


if __name__ == "__main__":
    main_guard(main)
