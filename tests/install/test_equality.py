"""What we install is what uv installs: contents, modes and RECORD, file by file."""

from __future__ import annotations

import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.install.equality import recorded, tree, uv_environment
from zerostart_jupyter.bench.install.wheels import SETS
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import gather, install
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.installation import Installation

pytestmark = pytest.mark.network

# .data, scripts, exec bits, headers, extension modules, namespaces, a wheel of several segments
SPECS = (
    *("six", "idna", "markdown-it-py", "jupyterlab-widgets", "ruff", "numpy", "google-api-core"),
    *("greenlet", "jupyter-core"),
)


def compare(specs: Sequence[str], settings: Settings, scratch: Path) -> Installation:
    request = gather(specs)
    found = install(request=request, settings=settings, hub=Hub(), activate=False)
    pins = [f"{name}=={version}" for name, version in found.distributions]
    uv_environment(scratch / "uv-environment", pins, read_indexes(request.index))
    ours, theirs = tree(found.environment), tree(scratch / "uv-environment")
    assert len(ours) > 10
    assert sorted(ours.keys() - theirs.keys()) == []
    assert sorted(theirs.keys() - ours.keys()) == []
    assert {name: ours[name] for name in ours if ours[name] != theirs[name]} == {}
    assert recorded(found.environment) == recorded(scratch / "uv-environment")
    return found


def test_a_few_of_every_kind(settings: Settings, tmp_path: Path) -> None:
    found = compare(SPECS, settings, tmp_path)
    assert len(tree(found.environment)) > 1000
    said = subprocess.run([found.bin / "ruff", "--version"], capture_output=True, check=True)
    assert said.stdout.startswith(b"ruff ")
    again = install(request=gather(SPECS), settings=settings, hub=Hub(), activate=False)
    assert again.warm


@pytest.mark.slow
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("name", sorted(SETS))
def test_the_benchmarks_sets(
    name: str, settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> None:
    short = tmp_path_factory.mktemp("e")  # long interpreters' paths are written in different ways
    compare(SETS[name].pins, settings.with_(http_timeout=60.0, cache=short / "c"), short)
