"""ipykernel's debugger: whether one is attached, and one that begins anew in a kernel that woke up.

A part of the `adapter`. What frontends speak to is debugpy's adapter, a process that is nobody's
child and stays with the kernel it was started for.
"""

from __future__ import annotations

import sys
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import launch
from zerostart_jupyter.snapshot.adapter import LiveKernel

ATTACHED = "a debugger that is attached"


def is_attached(kernel: LiveKernel) -> bool:
    """Whether a frontend debugs this kernel now."""
    return bool(getattr(getattr(kernel.kernel, "debugger", None), "is_started", False))


def was_attached(kernel: LiveKernel) -> bool:
    """Whether a debugger's threads are there, which stay when it is switched off."""
    return bool(getattr(getattr(kernel.kernel, "debugger", None), "debugpy_initialized", False))


def demand_none(kernel: LiveKernel) -> None:
    """Raise SnapshotRefused while one is attached: it also has its hand in what is started here."""
    if is_attached(kernel):
        raise SnapshotRefused(
            f"This kernel cannot be saved: the kernel holds {ATTACHED}.",
            remedy="Switch the debugger off, and save again; a restored kernel can be debugged.",
        )


def begin_anew(kernel: LiveKernel) -> None:
    """Have the next debugger get an adapter of its own: the present one is another kernel's."""
    debugger = getattr(kernel.kernel, "debugger", None)
    if debugger is not None:
        debugger.debugpy_initialized = False
        debugger.debugpy_client.debugpy_port = -1  # which has it choose one
    debugpy: Any = sys.modules.get("debugpy.server.api")
    if debugpy is not None:
        debugpy.listen.called = False  # or it would refuse to do so again
        launch.undebugged()  # or an adapter would be led to the one there was
