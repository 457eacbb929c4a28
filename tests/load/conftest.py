from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.load.faults.build import Faulty, compiled
from zerostart_jupyter.load import filesystem

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory where the project is: pytest's own may be a tmpfs, which has no page cache."""
    (ROOT / ".work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".work") as folder:
        yield Path(folder)


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory on a network file system, as far as the engine can tell."""
    folder = tmp_path / "far"
    folder.mkdir()
    real = filesystem.of

    def of(descriptor: int) -> filesystem.FileSystem:
        found = real(descriptor)
        below = os.readlink(f"/proc/self/fd/{descriptor}").startswith(str(folder))
        return replace(found, name="nfs", network=True) if below else found

    monkeypatch.setattr(filesystem, "of", of)
    return folder


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library between a process and its C library, which makes files fail."""
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def faulty(shim: Path, disk_path: Path) -> Faulty:
    """Runs scripts behind the shim; their cache lies on the disk."""
    return Faulty(shim, disk_path / "cache")
