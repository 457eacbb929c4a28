"""A file that is cut short at the worst moment: touching its mapped pages would end the kernel."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file

from tests.load.files import describe, file_bytes

# Cuts the file after it was last found to be whole, and says what came of the load.
SCRIPT = """
import json, os, sys
from zerostart_jupyter.core.errors import CheckpointChanged
from zerostart_jupyter.load import drop_in, load
from zerostart_jupyter.load.checkpoint import Shard

path, way, options = sys.argv[1], sys.argv[2], json.loads(sys.argv[3])
verify = Shard.verify

def cut(shard):
    verify(shard)
    os.truncate(path, 4096)

Shard.verify = cut
columns = (slice(None), slice(1, 900))
try:
    if way == "part":
        drop_in.safe_open(path, "pt").get_slice("b")[columns]
    elif way == "columns":
        load(path, device="cpu", slices={"b": columns}, **options)
    else:
        load(path, device="cpu", **options)
except CheckpointChanged as error:
    print(error)
"""


def misaligned(path: Path, values: torch.Tensor) -> None:
    size = values.nbytes
    header = {"a": describe("U8", [1], 0, 1), "b": describe("F32", values.shape, 1, 1 + size)}
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 4)  # the data begins on a multiple of 4, and b does not
    path.write_bytes(file_bytes(text, b"\7" + values.numpy().tobytes()))


@pytest.mark.parametrize(
    ("way", "options"),
    [
        ("dtype", {"dtype": "bf16"}),
        ("misaligned", {}),
        ("columns", {}),
        ("columns", {"dtype": "fp64"}),
        ("part", {}),
    ],
)
def test_after_it_was_seen_whole_is_an_error_and_no_signal(
    disk_path: Path, way: str, options: dict[str, Any]
) -> None:
    path = disk_path / "cut.safetensors"
    values = torch.arange(500_000, dtype=torch.float32).reshape(500, 1000)
    if way == "misaligned":
        misaligned(path, values)
    else:
        save_file({"b": values}, path)
    command = [sys.executable, "-c", SCRIPT, str(path), way, json.dumps(options)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    assert "cut.safetensors changed while it was being read" in done.stdout
