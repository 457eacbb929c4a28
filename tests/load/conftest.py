from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def disk_path() -> Iterator[Path]:
    """A directory where the project is: pytest's own may be a tmpfs, which has no page cache."""
    (ROOT / ".work").mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=ROOT / ".work") as folder:
        yield Path(folder)
