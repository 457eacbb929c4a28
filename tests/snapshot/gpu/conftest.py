"""A simulated machine with two GPUs for each test, and kernels that use one."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.gpu import simulated
from tests.snapshot.kernels import Kernel, kernel, ours

GIB = 1 << 30
STUMBLES = ("fail", "hang", "die")
MACHINE: dict[str, Any] = {
    "driver": "580.95.05",
    "devices": [
        {"uuid": f"GPU-{number:08x}-0000-4000-8000-000000000000", "name": "NVIDIA H200"}
        | {"total": 140 * GIB, "mig": 0}
        for number in (1, 2)
    ],
}


def stumbling(steps: Sequence[str], quick: Sequence[tuple[str, str]]) -> list[Any]:
    """Every way each step may go wrong; all but the quick ones run in the long matrix."""
    return [
        pytest.param(step, kind, marks=() if (step, kind) in quick else pytest.mark.slow)
        for step in steps
        for kind in STUMBLES
    ]


@pytest.fixture
def gpu(private: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The machine's folder; no helper is left at the end."""
    folder = private / "gpu"
    simulated.shims(folder, MACHINE)
    monkeypatch.setenv("SIMULATED_GPU", str(folder))
    path = [str(folder / "shims"), os.environ["PYTHONPATH"]]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.syspath_prepend(str(folder / "shims"))
    for name in ("pynvml", "cuda", "cuda.core", "cuda.core.checkpoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    importlib.invalidate_caches()
    yield folder
    for each in helpers(private):
        each.kill()
    eventually(lambda: not helpers(private))
    for name in ("pynvml", "cuda", "cuda.core", "cuda.core.checkpoint"):
        sys.modules.pop(name, None)


@pytest.fixture
def parkable(gpu: Path) -> Iterator[Kernel]:
    """A kernel that holds 3 GiB of the first GPU, with `simulated` and `parking` imported."""
    with kernel() as made:
        made.run("%load_ext zerostart_jupyter")
        made.run("from tests.snapshot.gpu import simulated")
        made.run("from zerostart_jupyter.snapshot.gpu import parking")
        made.run("simulated.use(3 << 30)")
        yield made


def helpers(marker: Path) -> list[psutil.Process]:
    """The helpers that speak to the simulated driver."""
    return [
        each
        for each in ours(marker)
        if "zerostart_jupyter.snapshot.gpu.helper" in _command_line(each)
    ]


def _command_line(process: psutil.Process) -> list[str]:
    try:
        return list(process.cmdline())
    except psutil.Error:
        return []
