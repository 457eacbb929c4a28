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
    _end_session()
    debugpy: Any = sys.modules.get("debugpy.server.api")
    if debugpy is not None:
        debugpy.listen.called = False  # or it would refuse to do so again
        launch.undebugged()  # or an adapter would be led to the one there was


def _end_session() -> None:
    """End debugpy's session with the adapter there was.

    It would end by itself when its thread finds the socket closed; a frontend that attaches before
    would be told of the new adapter, and debugpy would not connect to that.
    """
    pydevd: Any = sys.modules.get("_pydevd_bundle.pydevd_constants")
    session = None if pydevd is None else pydevd.get_global_debugger()
    if session is not None:
        session.dispose_and_kill_all_pydevd_threads()
        pydevd.set_global_debugger(None)  # whoever began to dispose of it may not have come so far
