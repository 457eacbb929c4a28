from __future__ import annotations

import hashlib
import importlib
import io
import subprocess
import tarfile
from pathlib import Path

import pytest

from tests.install.conftest import Bring
from tests.install.wheels import Wheel, make
from tests.servers.index import Index
from zerostart_jupyter.core.errors import InstallError
from zerostart_jupyter.install.build import Builder

WHEEL = make("zs-built", "3.0")
BACKEND = """
import pathlib, shutil
def build_wheel(folder, config_settings=None, metadata_directory=None):
    if pathlib.Path("broken").exists():
        raise SystemExit("this cannot be built")
    name = next(pathlib.Path(".").glob("*.whl"))
    shutil.copy(name, folder)
    return name.name
"""
PROJECT = (
    '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    '[project]\nname = "zs-built"\nversion = "3.0"\n'
)


def source(folder: Path) -> Path:
    folder.mkdir()
    (folder / "pyproject.toml").write_text(PROJECT)
    (folder / "backend.py").write_text(BACKEND)
    (folder / WHEEL.filename).write_bytes(WHEEL.data)
    return folder


def sdist(index: Index, folder: Path) -> Wheel:
    """The project as an sdist on the index."""
    metadata = b"Metadata-Version: 2.2\nName: zs-built\nVersion: 3.0\n"
    (folder / "PKG-INFO").write_bytes(metadata)
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as archive:
        archive.add(folder, "zs_built-3.0")
    made = Wheel("zs-built", "3.0", "zs_built-3.0.tar.gz", packed.getvalue())
    index.wheels[made.filename] = made
    return made


def test_an_sdist_is_built_once(
    bring: Bring, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sdist(index, source(tmp_path / "project"))
    found = bring("zs-built")
    assert found.distributions == [("zs-built", "3.0")]
    assert importlib.import_module("zs_built").NAME == "zs-built"
    monkeypatch.delattr(Builder, "_source")
    again = bring("zs-built>=1")  # another request for the same sources
    assert again.environment == found.environment


def test_a_build_that_fails_is_named(bring: Bring, index: Index, tmp_path: Path) -> None:
    folder = source(tmp_path / "project")
    (folder / "broken").touch()
    sdist(index, folder)
    with pytest.raises(InstallError, match="zs-built could not be built") as caught:
        bring("zs-built")
    assert "\n" not in str(caught.value)


def test_a_repository_is_built_at_its_commit(
    bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = source(tmp_path / "project")
    for name, value in (
        ("GIT_AUTHOR_NAME", "t"),
        ("GIT_AUTHOR_EMAIL", "t@example.org"),
        ("GIT_COMMITTER_NAME", "t"),
        ("GIT_COMMITTER_EMAIL", "t@example.org"),
        ("GIT_CONFIG_GLOBAL", "/dev/null"),
    ):
        monkeypatch.setenv(name, value)
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "one"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True, timeout=60)
    found = bring(f"zs-built @ git+{folder.as_uri()}")
    assert found.distributions == [("zs-built", "3.0")]


def test_a_directory_is_looked_at_every_time(bring: Bring, tmp_path: Path) -> None:
    folder = source(tmp_path / "project")
    first = bring(f"zs-built @ {folder.as_uri()}")
    changed = make("zs-built", "3.0", {"zs_built.py": b"NAME = 'changed'\n"})
    (folder / WHEEL.filename).write_bytes(changed.data)
    second = bring(f"zs-built @ {folder.as_uri()}")
    assert second.environment != first.environment
    assert (second.site_packages / "zs_built.py").read_bytes() == b"NAME = 'changed'\n"
    assert hashlib.sha256(changed.data).hexdigest() == changed.sha256
