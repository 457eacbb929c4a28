"""What `import zerostart` and `%load_ext zerostart` bring in: names, not milliseconds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

# Each costs tens of milliseconds or more, and none is needed before the first magic runs.
HEAVY = {
    "aiohttp",
    "google",
    "http.client",
    "httpx",
    "huggingface_hub",
    "importlib.metadata",
    "installer",
    "ipywidgets",
    "isal",
    "jupyter_client",
    "jupyter_server",
    "kvikio",
    "nbformat",
    "numpy",
    "packaging",
    "psutil",
    "pynvml",
    "requests",
    "safetensors",
    "ssl",
    "torch",
    "transformers",
    "urllib.request",
    "urllib3",
    "uv",
}

# What IPython itself imports when a magic has arguments, and when an extension is loaded.
IPYTHONS = {"IPython.core.magic_arguments", "IPython.core.magics.extension"}

IMPORT = """
import sys
before = set(sys.modules)
import zerostart
"""
IMPORT_AND_USE = IMPORT + "zerostart.ZerostartError, dir(zerostart)\n"
LOAD_EXT = """
import sys
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("pass")
before = set(sys.modules)
assert shell.run_cell("%load_ext zerostart").success
assert "zs_install" in shell.magics_manager.magics["line"]
"""
LOAD_EXT_IN_A_KERNEL = """
import sys
from ipykernel.kernelapp import IPKernelApp
app = IPKernelApp.instance(connection_file=sys.argv[1], capture_fd_output=False)
app.initialize(["--quiet"])
sys.stdout, sys.stderr = sys.__stdout__, sys.__stderr__
before = set(sys.modules)
app.shell.run_line_magic("load_ext", "zerostart")
assert "zs_install" in app.shell.magics_manager.magics["line"]
"""
REPORT = """
after = set(sys.modules)
import json
print(json.dumps(sorted(after - before)))
"""


def brought_in(script: str, home: Path) -> set[str]:
    """The modules that a fresh interpreter has afterwards and had not before."""
    folders = {"JUPYTER_RUNTIME_DIR": str(home), "IPYTHONDIR": str(home / "ipython")}
    ran = subprocess.run(
        [sys.executable, "-c", script + REPORT, str(home / "kernel.json")],
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
        env={**os.environ, **folders},
    )
    return set(json.loads(ran.stdout.splitlines()[-1]))


def heavy(found: set[str]) -> set[str]:
    return {name for name in HEAVY if any(f"{each}.".startswith(f"{name}.") for each in found)}


def foreign(found: set[str]) -> set[str]:
    """Those of other people: neither the standard library's nor ours."""
    known = {*sys.stdlib_module_names, "zerostart", "zerostart_jupyter"}
    return {name for name in found if name.partition(".")[0] not in known}


def test_import_brings_in_nothing_but_itself(tmp_path: Path) -> None:
    found = brought_in(IMPORT, tmp_path)
    assert foreign(found) == set()
    assert {name for name in found if "zerostart" in name} == {"zerostart", "zerostart_jupyter"}
    assert heavy(found) == set()


def test_a_public_name_brings_in_its_own_module(tmp_path: Path) -> None:
    found = brought_in(IMPORT_AND_USE, tmp_path)
    assert "zerostart_jupyter.core.errors" in found
    assert heavy(found) == set()


@pytest.mark.parametrize("script", [LOAD_EXT, LOAD_EXT_IN_A_KERNEL], ids=["shell", "kernel"])
def test_load_ext_brings_in_nobody_elses_and_nothing_heavy(script: str, tmp_path: Path) -> None:
    found = brought_in(script, tmp_path)
    assert "zerostart_jupyter.jupyter.extension" in found
    assert foreign(found) <= IPYTHONS
    assert heavy(found) == set()
