"""What users download: built in a clean copy, with an isolated build, on a machine without Node."""

from __future__ import annotations

import io
import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
MB = 1_000_000
PANEL = "data/share/jupyter/labextensions/zerostart-jupyter"
TOOLS = ("sh", "bash", "env", "uname", "cat", "dirname", "readlink", "sed")  # a build may use them

pytestmark = [pytest.mark.slow, pytest.mark.network, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What git has of the working tree."""
    folder = tmp_path_factory.mktemp("source")
    packed = subprocess.run(
        ["git", "archive", "HEAD"], cwd=ROOT, check=True, capture_output=True
    ).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")
    return folder


@pytest.fixture(scope="module")
def without_node(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """An environment in which no Node is to be found."""
    folder = tmp_path_factory.mktemp("tools")
    for name in TOOLS:
        program = shutil.which(name)
        assert program, name
        (folder / name).symlink_to(program)
    return {**os.environ, "PATH": str(folder)}


def build(folder: Path, to: Path, environ: dict[str, str]) -> Path:
    """A wheel of what lies in this folder."""
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "-w", str(to)]
    subprocess.run([*command, str(folder)], check=True, env=environ)
    [wheel] = to.glob("*.whl")
    return wheel


@pytest.fixture(scope="module")
def wheel(
    source: Path, without_node: dict[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Path:
    return build(source, tmp_path_factory.mktemp("wheel"), without_node)


def test_the_wheel_is_small_and_has_both_faces(wheel: Path) -> None:
    assert wheel.stat().st_size < 1 * MB
    with zipfile.ZipFile(wheel) as opened:
        names = opened.namelist()
    assert "zerostart.py" in names
    assert "zerostart_jupyter/jupyter/server/schema/openapi.yaml" in names
    assert any(f"{PANEL}/static/remoteEntry." in name for name in names)
    assert any(name.endswith("jupyter_server_config.d/zerostart_jupyter.json") for name in names)
    assert not [name for name in names if name.startswith("zerostart_jupyter/labextension")]


def test_the_source_distribution_is_small_and_builds_the_same(
    source: Path, wheel: Path, without_node: dict[str, str], tmp_path: Path
) -> None:
    code = "import sys; from hatchling.build import build_sdist; print(build_sdist(sys.argv[1]))"
    built = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path)],
        cwd=source,
        check=True,
        capture_output=True,
        text=True,
        env={**without_node, "HATCH_JUPYTER_BUILDER_SKIP_NPM": "1"},
    ).stdout.splitlines()[-1]
    packed = tmp_path / built
    assert packed.stat().st_size < 2 * MB
    with tarfile.open(packed) as archive:
        names = archive.getnames()
        archive.extractall(tmp_path, filter="data")
    assert not [name for name in names if "node_modules" in name or "/.yarn/" in name]
    again = build(tmp_path / built.removesuffix(".tar.gz"), tmp_path / "again", without_node)
    with zipfile.ZipFile(wheel) as first, zipfile.ZipFile(again) as second:
        assert sorted(first.namelist()) == sorted(second.namelist())
