"""Directories with a snapshot in them that the tests of one module share."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.snapshot.conftest import private as private
from tests.snapshot.conftest import separate, share_criu
from tests.snapshot.kernels import eventually, kernel, ours


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every directory a kernel writes to, with a CRIU; nothing may be left running at the end."""
    made = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        separate(made, patch)
        share_criu(made)
        yield made
        eventually(lambda: not ours(made))


@pytest.fixture(scope="module")
def published(home: Path) -> Path:
    """The same with the kernelspec of a snapshot with x = 1 and a function."""
    with kernel() as made:
        made.run("%load_ext zerostart")
        made.run("x = 1\ndef double(n): return 2 * n")
        made.run("%zs_snapshot save one")
        made.run("%zs_snapshot publish one")
    return home
