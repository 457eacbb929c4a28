"""Directories with a snapshot in them that the tests of one module share."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.install.wheels import make
from tests.patience import eventually
from tests.servers.index import Index
from tests.snapshot.conftest import private as private
from tests.snapshot.conftest import separate, share_criu
from tests.snapshot.kernels import kernel, ours


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Every directory a kernel writes to, with a CRIU; nothing may be left running at the end."""
    made = tmp_path_factory.mktemp("home")
    with pytest.MonkeyPatch.context() as patch:
        separate(made, patch)
        share_criu(made)
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_", "ZS_")):
                patch.delenv(name)
        patch.setenv("PIP_CONFIG_FILE", os.devnull)
        patch.setenv("UV_CACHE_DIR", str(made / "uv"))
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


@pytest.fixture(scope="module")
def index() -> Iterator[Index]:
    """A package index with `quick`."""
    with Index() as running:
        wheel = make("quick", files={"quick.py": b"word = 'there'\n"})
        running.wheels[wheel.filename] = wheel
        yield running


@pytest.fixture(scope="module")
def weights(home: Path) -> Path:
    """A checkpoint."""
    path = home / "model.safetensors"
    save_file({"weight": torch.eye(3)}, path)
    return path
