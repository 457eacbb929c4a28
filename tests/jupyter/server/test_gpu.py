"""GPU memory by kernel. NVML itself is stood in for: the machine of the tests has no GPU."""

from __future__ import annotations

import os
import subprocess
import sys
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from zerostart_jupyter.jupyter.server import gpu

GIB = 1 << 30


@pytest.fixture
def nvml(monkeypatch: pytest.MonkeyPatch) -> dict[int, list[Any]]:
    """Two devices of 80 GiB; what is returned says which processes are on which."""
    processes: dict[int, list[Any]] = {0: [], 1: []}
    stand_ins = {
        "nvmlInit": lambda: None,
        "nvmlShutdown": lambda: None,
        "nvmlDeviceGetCount": lambda: 2,
        "nvmlDeviceGetHandleByIndex": lambda index: index,
        "nvmlDeviceGetName": lambda handle: f"GPU {handle}",
        "nvmlDeviceGetMemoryInfo": lambda handle: SimpleNamespace(used=5 * GIB, total=80 * GIB),
        "nvmlDeviceGetComputeRunningProcesses": lambda handle: processes[handle],
    }
    for name, stand_in in stand_ins.items():
        monkeypatch.setattr(pynvml, name, stand_in)
    return processes


def holding(pid: int, used: int | None) -> Any:
    return SimpleNamespace(pid=pid, usedGpuMemory=used)


def test_memory_belongs_to_kernels_and_what_descends_from_them(nvml: dict[int, list[Any]]) -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    try:
        nvml[0] = [holding(os.getpid(), 2 * GIB), holding(child.pid, GIB), holding(1, GIB)]
        nvml[1] = [holding(child.pid, None), holding(2**30, GIB)]
        found = gpu.memory({os.getpid(): "a"})
    finally:
        child.communicate(b"\n")
    assert found["ok"]
    assert found["devices"][1] == {"index": 1, "name": "GPU 1", "used": 5 * GIB, "total": 80 * GIB}
    assert found["kernels"] == [
        {"kernel": "a", "device": 0, "bytes": 3 * GIB},
        {"kernel": "a", "device": 1, "bytes": 0},
    ]


def test_devices_are_shown_where_processes_may_not_be(
    nvml: dict[int, list[Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(handle: int) -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NO_PERMISSION)

    monkeypatch.setattr(pynvml, "nvmlDeviceGetComputeRunningProcesses", refuse)
    found = gpu.memory({os.getpid(): "a"})
    assert len(found["devices"]) == 2
    assert found["kernels"] == []


@pytest.mark.parametrize(
    ("code", "says"),
    [
        (pynvml.NVML_ERROR_LIBRARY_NOT_FOUND, "no NVIDIA driver"),
        (pynvml.NVML_ERROR_DRIVER_NOT_LOADED, "does not answer"),
    ],
)
def test_no_gpu_is_said_with_its_reason(
    monkeypatch: pytest.MonkeyPatch, code: int, says: str
) -> None:
    def refuse() -> None:
        raise pynvml.NVMLError(code)

    monkeypatch.setattr(pynvml, "nvmlInit", refuse)
    found = gpu.memory({})
    assert not found["ok"]
    assert says in found["reason"]
    assert found["remedy"]
    assert found["devices"] == []
