"""`make test-gpu` says at once where there is no GPU, and sets nothing up."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOOL = Path(__file__).parents[2] / "tools" / "gpu_box.py"


def run(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, TOOL, "set-up"],
        env={"PATH": str(folder)},
        capture_output=True,
        text=True,
        check=False,
    )


def test_without_a_driver(tmp_path: Path) -> None:
    ran = run(tmp_path)
    assert ran.returncode == 1
    assert "There is no NVIDIA driver here" in ran.stdout + ran.stderr


@pytest.mark.parametrize(("status", "said"), [(0, "No devices were found"), (9, "has failed")])
def test_with_a_driver_and_no_gpu(tmp_path: Path, status: int, said: str) -> None:
    shell = shutil.which("sh")
    smi = tmp_path / "nvidia-smi"
    smi.write_text(f"#!{shell}\necho {said}\nexit {status}\n")
    smi.chmod(0o700)
    ran = run(tmp_path)
    assert ran.returncode == 1
    assert "There is no NVIDIA GPU here" in ran.stdout + ran.stderr
    assert said in ran.stdout + ran.stderr
