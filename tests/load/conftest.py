from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load.faults.build import Faulty, compiled
from tests.load.files import every_dtype, save_sharded
from tests.load.gate import Gate
from zerostart_jupyter.load import filesystem, loader

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


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four tensors of one block each in a background load's terms, and one after them."""
    save_file(
        {f"row.{number}": torch.full((1 << 20,), number) for number in range(4)},
        tmp_path / "rows.safetensors",
    )
    return tmp_path / "rows.safetensors"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(loader, "POPULATE", 8 << 20)
    return Gate(monkeypatch)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Three shards of every type, larger than a block, with their index."""
    generator = torch.Generator().manual_seed(7)
    big = torch.randn(900, 2048, generator=generator)
    save_sharded(
        tmp_path / "tiny",
        [
            {"big.0": big, "half": big[:300].half()},
            every_dtype(),
            {"big.1": big.bfloat16(), "nan": torch.full((5,), float("nan"))},
        ],
    )
    return tmp_path / "tiny"
