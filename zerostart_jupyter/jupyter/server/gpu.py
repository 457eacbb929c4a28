"""GPU memory by kernel: what NVML says of processes, brought home to the kernels they are of."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pynvml

_PROC = Path("/proc")


def memory(owners: Mapping[int, str]) -> dict[str, Any]:
    """Devices and kernels with their bytes; `owners` tells which kernel a pid is.

    Where there is no NVIDIA GPU: no devices, and a reason with the next step.
    """
    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        return {**_absent(error), "devices": [], "kernels": []}
    try:
        devices: list[dict[str, Any]] = []
        held: dict[tuple[str, int], int] = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            handle = pynvml.nvmlDeviceGetHandleByIndex(index)
            devices.append(_device(index, handle))
            for process in _processes(handle):
                kernel = _owner(process.pid, owners)
                if kernel is not None:
                    key = (kernel, index)
                    held[key] = held.get(key, 0) + (process.usedGpuMemory or 0)
    finally:
        pynvml.nvmlShutdown()
    return {
        "ok": True,
        "reason": "",
        "remedy": "",
        "devices": devices,
        "kernels": [
            {"kernel": kernel, "device": index, "bytes": used}
            for (kernel, index), used in sorted(held.items())
        ],
    }


def _absent(error: Exception) -> dict[str, Any]:
    if isinstance(error, pynvml.NVMLError_LibraryNotFound):
        reason = "This machine has no NVIDIA driver."
        remedy = "Installs, CPU loads and snapshots work all the same."
    else:
        reason = f"The NVIDIA driver does not answer: {error}."
        remedy = "Run nvidia-smi in a terminal to see what it says."
    return {"ok": False, "reason": reason, "remedy": remedy}


def _device(index: int, handle: Any) -> dict[str, Any]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    name = pynvml.nvmlDeviceGetName(handle)
    return {"index": index, "name": name, "used": int(memory.used), "total": int(memory.total)}


def _processes(handle: Any) -> list[Any]:
    try:
        return list(pynvml.nvmlDeviceGetComputeRunningProcesses(handle))
    except pynvml.NVMLError:  # in some containers and under MIG nobody may ask
        return []


def _owner(pid: int, owners: Mapping[int, str]) -> str | None:
    """The kernel a process is, or descends from: a restored kernel is below its shepherd."""
    while pid > 1:
        if pid in owners:
            return owners[pid]
        pid = _parent(pid)
    return None


def _parent(pid: int) -> int:
    try:
        stat = (_PROC / str(pid) / "stat").read_text()
    except OSError:
        return 0
    return int(stat.rpartition(")")[2].split()[1])
