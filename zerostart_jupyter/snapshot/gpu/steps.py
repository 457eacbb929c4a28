"""What a kernel's processes go through, in terms of the driver's single calls.

Each step covers the whole tree: a kernel's children may use the GPU as well.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence

from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.snapshot import procfs
from zerostart_jupyter.snapshot.gpu.driver import Driver, State, failed

DEVICE = "/dev/nvidia"
_LIBRARY = "libcuda.so"


def suspects(pid: int) -> list[int]:
    """The processes of a tree that have loaded CUDA's driver, parents first."""
    return [each for each in procfs.tree(pid) if _has_cuda(each)]


def users(driver: Driver, pid: int) -> list[int]:
    """Those of them that the driver knows; one that only loaded it, and holds no GPU, is none.

    Raises GpuFailed where a process holds a GPU and the driver cannot say how it is.
    """
    found = []
    for each in suspects(pid):
        try:
            driver.state(each)
        except GpuFailed:
            if holds_gpu(each):
                raise
        else:
            found.append(each)
    return found


def lock(driver: Driver, pids: Sequence[int], seconds: float) -> None:
    """Lock all or none of them; raises GpuFailed."""
    locked: list[int] = []
    try:
        for pid in pids:
            locked.append(pid)
            driver.lock(pid, seconds)
    except BaseException:
        put_back(driver, locked)
        raise


def checkpoint(driver: Driver, pids: Sequence[int]) -> None:
    """Checkpoint all or none of them; raises GpuFailed. Either way they stay locked."""
    for pid in pids:
        driver.checkpoint(pid)


def put_back(driver: Driver, pids: Sequence[int], mapping: Mapping[str, str] | None = None) -> None:
    """Bring each back to running from wherever it is; raises the first GpuFailed at the end.

    Children first: a parent may wait for what they do on the GPU.
    """
    error: GpuFailed | None = None
    for pid in reversed(pids):
        try:
            _put_one_back(driver, pid, mapping)
        except GpuFailed as raised:
            error = error or raised
    if error is not None:
        raise error


def holds_gpu(pid: int) -> bool:
    """Whether it has an NVIDIA device open."""
    return any(each.target.startswith(DEVICE) for each in procfs.descriptors(pid))


def _put_one_back(driver: Driver, pid: int, mapping: Mapping[str, str] | None) -> None:
    state = driver.state(pid)
    if state is State.FAILED:
        raise failed("restore", pid, "an earlier step left it in a failed state")
    if state is State.CHECKPOINTED:
        driver.restore(pid, mapping)
    if state is not State.RUNNING:
        driver.unlock(pid)


def _has_cuda(pid: int) -> bool:
    return any(os.path.basename(path).startswith(_LIBRARY) for path in procfs.mapped(pid))
