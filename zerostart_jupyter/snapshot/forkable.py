"""What keeps a kernel from being forked into an undo point: named before it is tried.

A fork has the main thread alone. ipykernel's own threads are made anew (`rebuilt`); pools that
come back by themselves are let be; every other thread would be missing, and whoever waits for it
would wait for ever.
"""

from __future__ import annotations

import ctypes
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import procfs
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.gpu import parking

NAME = "snapshot: fork"
_PAUSE_HARD = 2  # omp_pause_hard, OpenMP 5.0 section 3.2.44
_OPENMP = ("libgomp", "libomp", "libiomp")
_DEVICES = {"/dev/nvidia": "a CUDA context", "/dev/kfd": "a context on an AMD GPU"}
_OURS = ("zerostart-hub", "zerostart-status")  # live for a moment, and begin anew in a fork
_HARMLESS = ("TMonitor",)  # tqdm's, which only refreshes bars
# Native pools whose libraries end them before a fork and start them again: pthread_atfork(3).
_SURVIVING = ("openblas", "libarrow")
_ZMQ = "ZMQbg"

_libraries: dict[str, ctypes.CDLL] = {}


def examine(kernel: LiveKernel) -> None:
    """Raise SnapshotRefused that names what is in the way."""
    found = list(obstacles(kernel))
    if found:
        raise SnapshotRefused(
            f"No undo point can be kept while this kernel has {', '.join(found)}.",
            remedy="End that first, or save with `%zs_snapshot save NAME`.",
        )


def capability() -> Capability:
    """Whether undo points are possible here; in a kernel also whether they are just now."""
    if sys.platform != "linux":
        return Capability(NAME, False, "Undo points need Linux.", "Use Linux.")
    try:
        kernel = LiveKernel.current()
    except SnapshotRefused:
        return Capability(NAME, True, "undo points in a live kernel, without any privilege")
    found = list(obstacles(kernel))
    if found:
        return Capability(NAME, False, f"This kernel has {', '.join(found)}.", "End that first.")
    return Capability(NAME, True, "undo points, without any privilege")


def obstacles(kernel: LiveKernel) -> Iterator[str]:
    """What of this process a fork would lose or break, in words."""
    mapped = procfs.mapped(os.getpid())
    pause_openmp(mapped)
    loop = kernel.loop()
    if loop is not None:
        yield loop
    if kernel.kernel.eventloop is not None:
        yield "the event loop of a graphical toolkit"
    own = kernel.threads()
    known: set[int | None] = {os.getpid()}  # after a fork the main thread does not know its own
    for each in threading.enumerate():
        known.add(each.native_id)
        strange = each not in own and each is not threading.main_thread()
        if strange and each.name not in _OURS and type(each).__name__ not in _HARMLESS:
            yield f"the thread {each.name!r}"
    yield from _native(known, mapped)
    yield from _devices()
    # A parked one has no device open, and its context is in this process all the same.
    if parking.is_parked(parking.Where.here()):
        yield "GPU memory that is parked"


def pause_openmp(mapped: set[str]) -> None:
    """End the threads of all OpenMP runtimes; the next parallel region starts them again."""
    for path in mapped:
        if os.path.basename(path).startswith(_OPENMP):
            if path not in _libraries:
                _libraries[path] = ctypes.CDLL(path)
            pause = getattr(_libraries[path], "omp_pause_resource_all", None)
            if pause is not None:
                pause(_PAUSE_HARD)


def _native(known: set[int | None], mapped: set[str]) -> Iterator[str]:
    """Threads that libraries started. One without a name of its own bears the process's."""
    task = Path("/proc/self/task")
    plain = _name(task / str(os.getpid()))
    names = [
        name
        for tid in procfs.threads(os.getpid())
        if tid not in known and (name := _name(task / str(tid))) and not name.startswith(_ZMQ)
    ]
    nameless = names.count(plain)
    if nameless and not any(each in path for each in _SURVIVING for path in mapped):
        yield f"{nameless} threads of a native library"
    for name in sorted({*names} - {plain}):
        if not name.startswith("jemalloc_bg"):  # started again by jemalloc itself
            yield f"the native thread {name!r}"


def _devices() -> Iterator[str]:
    targets = list(procfs.targets(os.getpid()))
    for prefix, what in _DEVICES.items():
        if any(target.startswith(prefix) for target in targets):
            yield what


def _name(task: Path) -> str:
    try:
        return (task / "comm").read_text().strip()
    except OSError:  # it has just ended
        return ""
