"""A real file system that another process answers for; it counts what is read of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

pytestmark = pytest.mark.fuse

ROOT = Path(__file__).parents[2]
MIB = 1 << 20
TENSORS = {"a": torch.arange(3 * MIB // 8), "b": torch.full((5, MIB), 7, dtype=torch.uint8)}

LOADING = """
import json, os, signal, sys
from pathlib import Path
import torch
from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load, loader
from zerostart_jupyter.load.checkpoint import open_checkpoint

path, cache, room, *dies = sys.argv[1:]
settings = Settings.read({}, cache=Path(cache), model_cache_gb=float(room))
said = []
for _ in range(2):
    if dies:
        with open_checkpoint(path, settings) as checkpoint:
            os.kill(os.getppid(), signal.SIGKILL)
            try:
                loader.begin(checkpoint, device="cpu", settings=settings)
            except LoadError as error:
                said.append(str(error))
        break
    weights = load(path, device="cpu", settings=settings)
    said.append([weights.reader, str(weights.files[0]), int(weights["a"].sum()),
                 int(weights["b"].sum()), path in Path("/proc/self/maps").read_text()])
print(json.dumps(said), flush=True)
"""


def through_a_mount(tmp_path: Path, *about: str) -> list[Any]:
    """What the script said of the file behind a mount, and the bytes that were read of that."""
    folder, target = tmp_path / "folder", tmp_path / "target"
    folder.mkdir()
    target.mkdir()
    save_file(TENSORS, folder / "x.safetensors")
    script = tmp_path / "loading.py"
    script.write_text(LOADING)
    ended = subprocess.run(
        [
            *("unshare", "--user", "--map-root-user", "--mount"),
            *(sys.executable, "-m", "tests.servers.mounted", str(folder), str(target)),
            *(sys.executable, str(script), str(target / "x.safetensors")),
            *(str(tmp_path / "cache"), *about),
        ],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.stdout, ended.stderr
    return [json.loads(line) for line in ended.stdout.splitlines()]


SUMS = [int(TENSORS["a"].sum()), int(TENSORS["b"].sum())]


def test_is_copied_once_and_mapped_from_there(tmp_path: Path) -> None:
    (first, second), read = through_a_mount(tmp_path, "1")
    copy = first[1]
    assert first == ["remote", copy, *SUMS, False]
    assert second == ["mmap", copy, *SUMS, False]
    assert copy.startswith(str(tmp_path / "cache"))
    size = (tmp_path / "folder" / "x.safetensors").stat().st_size
    assert size <= read < 2 * size


def test_is_read_and_not_mapped_where_there_is_no_room_for_a_copy(tmp_path: Path) -> None:
    found, _ = through_a_mount(tmp_path, "0")
    there = str(tmp_path / "target" / "x.safetensors")
    assert found == [["direct", there, *SUMS, False]] * 2


def test_a_server_that_dies_is_an_error_and_no_signal(tmp_path: Path) -> None:
    ((said,),) = through_a_mount(tmp_path, "0", "dies")
    assert "x.safetensors could not be read at byte" in said
