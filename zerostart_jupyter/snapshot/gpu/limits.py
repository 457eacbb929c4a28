"""What NVIDIA's checkpoints do not support, each found beforehand where it shows."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import GpuFailed, SnapshotRefused
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import procfs, room
from zerostart_jupyter.snapshot.gpu import devices, finding
from zerostart_jupyter.snapshot.gpu.devices import Machine

NAME = "snapshot: park"
_PTRACE = 19  # CAP_SYS_PTRACE, linux/capability.h
_IPC_DRIVER = (610,)  # the first that checkpoints processes which share GPU memory
_IPC_MAPPED = "/dev/shm/cuda.shm."  # the driver's own bookkeeping of what is shared


def capabilities() -> list[Capability]:
    """Each condition of moving GPU memory, and parking as a whole; one line without a GPU."""
    try:
        machine = devices.read()
    except GpuFailed as error:
        return [Capability(NAME, False, error.message, error.remedy)]
    found = [finding.capability(), permission(), *of_machine(machine)]
    wrong = next((each for each in found if not each), None)
    if wrong:
        return [*found, Capability(NAME, False, wrong.reason, wrong.remedy)]
    names = ", ".join(sorted({each.name for each in machine.devices}))
    return [*found, Capability(NAME, True, f"memory of {names} goes to the host and back")]


def of_machine(machine: Machine) -> list[Capability]:
    """What the driver's version and the modes of its GPUs allow."""
    enough = devices.release(machine.driver) >= devices.DRIVER
    mig = [each for each in machine.devices if each.mig]
    mps = [each for each in machine.devices if each.mps]
    oldest = devices.DRIVER[0]
    return [
        Capability("gpu: driver", True, f"NVIDIA driver {machine.driver}")
        if enough
        else Capability(
            "gpu: driver",
            False,
            f"NVIDIA driver {machine.driver} is older than {oldest}, the first whose checkpoints "
            "can be used.",
            f"Install driver {oldest} or newer.",
        ),
        Capability("gpu: MIG", True, "no GPU is partitioned")
        if not mig
        else Capability(
            "gpu: MIG",
            False,
            f"{mig[0].name} {mig[0].uuid} is in MIG mode, which the driver cannot checkpoint.",
            "An administrator may run `nvidia-smi -mig 0`.",
        ),
        Capability("gpu: MPS", True, "no process shares a GPU through MPS")
        if not mps
        else Capability(
            "gpu: MPS",
            False,
            f"Processes share {mps[0].name} through MPS, which the driver cannot checkpoint.",
            "Stop it with `echo quit | nvidia-cuda-mps-control`, and start the kernel anew.",
        ),
    ]


def of_process(pid: int, machine: Machine) -> list[Capability]:
    """What a kernel itself uses; of managed memory only its own modules can tell."""
    found = []
    shared = [
        each
        for each in procfs.tree(pid)
        if any(path.startswith(_IPC_MAPPED) for path in procfs.mapped(each))
    ]
    if shared and devices.release(machine.driver) < _IPC_DRIVER:
        found.append(
            Capability(
                "gpu: IPC",
                False,
                f"Process {shared[0]} ({procfs.command(shared[0])}) shares GPU memory with "
                f"another (CUDA IPC), which driver {machine.driver} cannot checkpoint.",
                f"End what shares it, or install driver {_IPC_DRIVER[0]} or newer.",
            )
        )
    library = next(_managed(), None) if pid == os.getpid() else None
    if library:
        found.append(
            Capability(
                "gpu: managed memory",
                False,
                f"{library} allocates managed memory, which the driver cannot checkpoint.",
                f"Have {library} allocate plain device memory, and start the kernel anew.",
            )
        )
    return found


def permission() -> Capability:
    """Whether this process may touch another's GPU memory."""
    name = "gpu: permission"
    effective = int(procfs.status("self").get("CapEff", "0"), 16)
    if effective >> _PTRACE & 1:
        return Capability(name, True, "CAP_SYS_PTRACE")
    return Capability(
        name,
        False,
        "The driver lets only root (CAP_SYS_PTRACE) checkpoint a process.",
        "Run Jupyter as root in a container or virtual machine of its own.",
    )


def demand(found: list[Capability]) -> None:
    """Raise SnapshotRefused for the first that is not there."""
    for each in found:
        if not each:
            raise SnapshotRefused(each.reason, remedy=each.remedy)


def demand_room(needed: int, what: str) -> None:
    """Raise SnapshotRefused unless the host has memory for so many bytes."""
    free = room.memory()
    if needed > free:
        raise SnapshotRefused(
            f"{what} needs {size(needed)} of host memory, {size(free)} are free.",
            remedy="Free some first: `del` large objects, or end other kernels.",
        )


def _managed() -> Iterator[str]:
    """Libraries of this process that are set to managed memory, by their own word."""
    cupy = sys.modules.get("cupy")
    if cupy is not None:
        allocator = getattr(cupy.cuda, "get_allocator", lambda: None)()
        if allocator is not None and allocator is getattr(cupy.cuda, "malloc_managed", ...):
            yield "cupy"
    rmm = sys.modules.get("rmm.mr")
    if rmm is not None and "Managed" in rmm.get_current_device_resource_type().__name__:
        yield "rmm"
