"""The GPUs of a machine as NVML tells of them, and whether others can stand in for them.

NVML keeps the driver's devices open while it is in use: it is asked by helpers and servers, never
by a kernel, which could not be dumped with them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.core.wording import size

DRIVER = (570,)  # the first whose checkpoints have steps of their own, and map GPUs


@dataclass(frozen=True, slots=True)
class Device:
    """One GPU; memory in bytes. `held` is what each process holds, where NVML says so."""

    uuid: str
    name: str
    used: int
    total: int
    mig: bool = False
    mps: bool = False
    held: Mapping[int, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Machine:
    """The driver's version and every GPU it has, hidden by CUDA_VISIBLE_DEVICES or not."""

    driver: str
    devices: tuple[Device, ...] = ()

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Machine:
        """What `as_json` gave; raises KeyError or TypeError for anything else."""
        devices = [
            Device(**each | {"held": {int(pid): used for pid, used in each["held"].items()}})
            for each in body["devices"]
        ]
        return cls(str(body["driver"]), tuple(devices))

    def as_json(self) -> dict[str, Any]:
        """A plain object: driver, devices."""
        return asdict(self)

    @property
    def used(self) -> int:
        """Bytes in use on all of them."""
        return sum(each.used for each in self.devices)

    def held(self, pids: Sequence[int]) -> int:
        """Bytes these processes hold; 0 where NVML does not know them (in some containers)."""
        return sum(each.held.get(pid, 0) for each in self.devices for pid in pids)


def read() -> Machine:
    """The GPUs as they are now; raises GpuFailed where NVML does not answer."""
    import pynvml

    try:
        pynvml.nvmlInit()
    except pynvml.NVMLError as error:
        if isinstance(error, pynvml.NVMLError_LibraryNotFound):
            reason, remedy = "This machine has no NVIDIA driver.", "Use a machine with a GPU."
        else:
            reason = f"The NVIDIA driver does not answer: {error}."
            remedy = "Run nvidia-smi in a terminal to see what it says."
        raise GpuFailed(reason, remedy=remedy) from error
    try:
        handles = map(pynvml.nvmlDeviceGetHandleByIndex, range(pynvml.nvmlDeviceGetCount()))
        devices = tuple(_device(pynvml, handle) for handle in handles)
        return Machine(_text(pynvml.nvmlSystemGetDriverVersion()), devices)
    except pynvml.NVMLError as error:
        raise GpuFailed(
            f"The NVIDIA driver does not tell of its GPUs: {error}.",
            remedy="Run nvidia-smi in a terminal to see what it says.",
        ) from error
    finally:
        pynvml.nvmlShutdown()


def differences(saved: Machine, here: Machine) -> Iterator[str]:
    """Why what was saved there cannot come back here, each in words."""
    if release(here.driver) < DRIVER:
        yield f"NVIDIA driver {here.driver} is older than {DRIVER[0]}, the first that can restore"
    if release(here.driver) < release(saved.driver):
        yield f"NVIDIA driver {here.driver} is older than the {saved.driver} that saved it"
    for each in here.devices:
        if each.mig:
            yield f"{each.name} {each.uuid} is in MIG mode, which cannot be restored to"
    if len(here.devices) < len(saved.devices):
        yield f"it needs {len(saved.devices)} GPUs, {len(here.devices)} are here"
        return
    missing = _standing_in(saved, here)[1]
    for each in missing:
        there = ", ".join(sorted({other.name for other in here.devices}))
        yield f"it was saved on {each.name} ({size(each.total)}), this machine has {there}"


def mapping(saved: Machine, here: Machine) -> dict[str, str] | None:
    """UUID of each saved GPU → that of the one here; None where all are the same ones.

    The driver wants every GPU it knows named, those a process never used as well. Raises GpuFailed
    where one has none to stand in for it.
    """
    pairs, missing = _standing_in(saved, here)
    if missing:
        raise GpuFailed(
            f"No GPU here can stand in for {missing[0].name} {missing[0].uuid}.",
            remedy="Restore it where there are as many GPUs of that kind.",
        )
    return None if all(old == new for old, new in pairs.items()) else pairs


def release(version: str) -> tuple[int, ...]:
    """A driver's version as numbers."""
    return tuple(int(part) for part in version.split(".") if part.isdigit())


def _standing_in(saved: Machine, here: Machine) -> tuple[dict[str, str], list[Device]]:
    """Which GPU here stands for which, itself where it is here; and those that none can."""
    free = {each.uuid: each for each in here.devices}
    pairs = {each.uuid: each.uuid for each in saved.devices if free.pop(each.uuid, None)}
    missing = []
    for each in saved.devices:
        if each.uuid in pairs:
            continue
        same = next((other for other in free.values() if _same_chip(each, other)), None)
        if same is None:
            missing.append(each)
        else:
            pairs[each.uuid] = free.pop(same.uuid).uuid
    return pairs, missing


def _same_chip(one: Device, other: Device) -> bool:
    return one.name == other.name and other.total >= one.total


def _device(pynvml: Any, handle: Any) -> Device:
    memory = pynvml.nvmlDeviceGetMemoryInfo(handle)
    return Device(
        uuid=_text(pynvml.nvmlDeviceGetUUID(handle)),
        name=_text(pynvml.nvmlDeviceGetName(handle)),
        used=int(memory.used),
        total=int(memory.total),
        mig=_mig(pynvml, handle),
        mps=bool(_processes(pynvml, handle, "nvmlDeviceGetMPSComputeRunningProcesses")),
        held=_processes(pynvml, handle, "nvmlDeviceGetComputeRunningProcesses"),
    )


def _mig(pynvml: Any, handle: Any) -> bool:
    try:
        present, _ = pynvml.nvmlDeviceGetMigMode(handle)
    except pynvml.NVMLError:  # a GPU that has no such mode
        return False
    return bool(present == pynvml.NVML_DEVICE_MIG_ENABLE)


def _processes(pynvml: Any, handle: Any, function: str) -> dict[int, int]:
    try:
        listed = getattr(pynvml, function)(handle)
    except pynvml.NVMLError:  # in some containers and under MIG nobody may ask
        return {}
    return {int(each.pid): int(each.usedGpuMemory or 0) for each in listed}


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value
