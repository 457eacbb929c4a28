"""Which of the two drivers there is here, and why not the better one."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Sequence

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.snapshot.gpu.driver import CudaCheckpoint, CudaCore, Driver

NAME = "gpu: checkpoint"
PROGRAM = "cuda-checkpoint"
_MODULE = "cuda.core"
_PLACES = ("/usr/local/bin", "/usr/local/cuda/bin", "/usr/bin")
_REMEDY = "Install cuda-core: `%zs_install cuda-core cuda-bindings`."


def capability(path: Sequence[str] | None = None) -> Capability:
    """Which one would be used by a helper with this path; imports neither and runs neither."""
    if _module(path or sys.path):
        return Capability(NAME, True, f"{_MODULE}.checkpoint, in a process of its own")
    program = _program()
    if program:
        return Capability(
            NAME, True, f"{program}, which starts anew at each step; cuda-core would not"
        )
    return Capability(NAME, False, f"Neither cuda-core nor {PROGRAM} is here.", _REMEDY)


def driver(timeout: float) -> Driver:
    """The driver to use: cuda.core, else the program; raises GpuFailed if there is none."""
    problem = f"there is no {_MODULE}"
    if _module(sys.path):
        try:
            return CudaCore()
        except Exception as error:  # an import that fails for any reason of its own
            problem = f"{_MODULE} cannot be imported: {error}"
    program = _program()
    if program:
        return CudaCheckpoint(program, timeout)
    raise GpuFailed(
        f"CUDA processes cannot be checkpointed: {problem}, and no {PROGRAM}.", remedy=_REMEDY
    )


def _module(path: Sequence[str]) -> bool:
    # A wheel keeps it once for each major version of CUDA, to be chosen when it is imported.
    return any(
        os.path.isfile(os.path.join(each, "cuda", "core", kind, "checkpoint.py"))
        for each in path
        for kind in ("", "cu13", "cu12")
    )


def _program() -> str | None:
    for path in (shutil.which(PROGRAM), *(f"{place}/{PROGRAM}" for place in _PLACES)):
        if path and os.access(path, os.X_OK):
            return path
    return None
