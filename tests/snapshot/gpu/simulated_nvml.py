"""What the module `pynvml` is, of the simulated machine."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from tests.snapshot.gpu import simulated

NVML_DEVICE_MIG_ENABLE = 1


class NVMLError(Exception):
    """Anything NVML says no to."""


class NVMLError_LibraryNotFound(NVMLError):
    """There is no driver."""


def nvmlInit() -> None:
    if simulated.machine().get("absent"):
        raise NVMLError_LibraryNotFound("NVML Shared Library Not Found")


def nvmlShutdown() -> None:
    pass


def nvmlSystemGetDriverVersion() -> str:
    return str(simulated.machine()["driver"])


def nvmlDeviceGetCount() -> int:
    return len(simulated.machine()["devices"])


def nvmlDeviceGetHandleByIndex(index: int) -> dict[str, Any]:
    found: dict[str, Any] = simulated.machine()["devices"][index]
    return found


def nvmlDeviceGetMemoryInfo(handle: dict[str, Any]) -> SimpleNamespace:
    return SimpleNamespace(used=simulated.used(handle["uuid"]), total=handle["total"])


def nvmlDeviceGetUUID(handle: dict[str, Any]) -> str:
    return str(handle["uuid"])


def nvmlDeviceGetName(handle: dict[str, Any]) -> str:
    return str(handle["name"])


def nvmlDeviceGetMigMode(handle: dict[str, Any]) -> tuple[int, int]:
    if "mig" not in handle:
        raise NVMLError("Not Supported")
    return int(handle["mig"]), 0


def nvmlDeviceGetComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return simulated.holders(handle["uuid"])


def nvmlDeviceGetMPSComputeRunningProcesses(handle: dict[str, Any]) -> list[SimpleNamespace]:
    return simulated.holders(handle["uuid"]) if handle.get("mps") else []
