"""What holds for the repository as a whole, read from the files git tracks."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
import subprocess
from pathlib import Path

import pytest

import zerostart_jupyter
from tools import write_docs

ROOT = Path(__file__).resolve().parents[1]
LONGEST = 400  # lines of a module
INSIDE_OTHERS = {"zerostart_jupyter.load.vllm_loader"}  # imports what imports it: vLLM

# Written apart, so that this file does not hold what it looks for.
REGISTRIES = re.compile(
    "|".join(
        (
            r"pypi\." + r"org",
            r"python" + r"hosted\.org",
            r"npm" + r"js\.(org|com)",
            r"yarn" + r"pkg\.com",
            r"deb\." + r"debian\.org",
            r"archive\." + r"ubuntu\.com",
            r"download\." + r"pytorch\.org",
        )
    )
)
MACHINE_PATHS = re.compile(r"(?<![\w.~$}/])/(?:" + "work|root|opt" + r")/\w")


def tracked() -> list[Path]:
    listed = subprocess.run(
        ["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    files = [ROOT / name for name in listed.stdout.split("\0") if name]
    return [file for file in files if file.is_file() and not file.is_symlink()]


def texts() -> dict[str, str]:
    found = {}
    for file in tracked():
        try:
            found[str(file.relative_to(ROOT))] = file.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue  # a picture
    return found


TEXTS = texts()
MODULES = [name for name in TEXTS if name.endswith((".py", ".ts", ".tsx"))]


def lines_with(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{name}:{number}: {line.strip()[:100]}"
        for name, text in TEXTS.items()
        for number, line in enumerate(text.splitlines(), 1)
        if pattern.search(line)
    ]


def test_git_tracks_something() -> None:
    assert {"pyproject.toml", "zerostart.py", "README.md"} <= set(TEXTS)


def test_no_registry_is_named() -> None:
    assert lines_with(REGISTRIES) == []


def test_no_path_of_somebodys_machine() -> None:
    assert lines_with(MACHINE_PATHS) == []


def test_modules_are_short() -> None:
    own = [name for name in MODULES if not name.startswith(("tests/", "labextension/test/"))]
    assert own
    assert [name for name in own if len(TEXTS[name].splitlines()) > LONGEST] == []


def test_no_module_is_named_utils() -> None:
    assert [name for name in MODULES if Path(name).stem in ("util", "utils", "helpers")] == []


def test_what_is_public_is_documented() -> None:
    bare = []
    for found in pkgutil.walk_packages(zerostart_jupyter.__path__, "zerostart_jupyter."):
        if found.name in INSIDE_OTHERS:
            continue
        module = importlib.import_module(found.name)
        for name in getattr(module, "__all__", []):
            value = getattr(module, name)
            documented = inspect.isfunction(value) or inspect.isclass(value)
            if documented and not inspect.getdoc(value):
                bare.append(f"{found.name}.{name}")
    assert bare == []


@pytest.mark.parametrize("name", write_docs.PAGES)
def test_generated_docs_are_up_to_date(name: str) -> None:
    assert TEXTS[name] == write_docs.PAGES[name](), "run `make docs`"


def test_links_in_the_docs_lead_somewhere() -> None:
    broken = []
    for name, text in TEXTS.items():
        if name.endswith(".md"):
            for target in re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", text):
                if not (ROOT / name).parent.joinpath(target).exists():
                    broken.append(f"{name}: {target}")
    assert broken == []
