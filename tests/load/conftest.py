from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.load.faults.build import Faulty, compiled

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory where the project is: pytest's own may be a tmpfs, which has no page cache."""
    (ROOT / ".work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".work") as folder:
        yield Path(folder)


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library between a process and its C library, which makes files fail."""
    return compiled(tmp_path_factory.mktemp("shim"))


@pytest.fixture
def faulty(shim: Path, disk_path: Path) -> Faulty:
    """Runs scripts behind the shim; their cache lies on the disk."""
    return Faulty(shim, disk_path / "cache")
