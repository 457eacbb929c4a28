"""What keeps a kernel from being forked into an undo point: named before it is tried.

A fork has the main thread alone. ipykernel's own threads are made anew (`rebuilt`); pools that
come back by themselves are let be; every other thread would be missing, and whoever waits for it
would wait for ever.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Iterator, Mapping

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import debugging, pools, procfs
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.gpu import parking

NAME = "snapshot: fork"
_DEVICES = {"/dev/nvidia": "a CUDA context", "/dev/kfd": "a context on an AMD GPU"}
_OURS = ("zerostart-hub", "zerostart-status")  # live for a moment, and begin anew in a fork
_HARMLESS = ("TMonitor",)  # tqdm's, which only refreshes bars
_AGAIN = ("ZMQbg", "jemalloc_bg")  # made anew by `rebuilt`, and by jemalloc itself
# A thread that just began has no name yet, and one that was joined is listed a moment longer.
_SETTLED = 0.5  # seconds
_STEP = 0.001

_nameless: set[int] = set()  # threads that had this time


def examine(kernel: LiveKernel, opened: Mapping[int, str] | None = None) -> None:
    """Raise SnapshotRefused that names what is in the way; `opened` is of `procfs.opened`."""
    found = list(obstacles(kernel, opened))
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


def obstacles(kernel: LiveKernel, opened: Mapping[int, str] | None = None) -> Iterator[str]:
    """What of this process a fork would lose or break, in words."""
    mapped = procfs.mapped(os.getpid())
    pools.pause_openmp(mapped)
    loop = kernel.loop()
    if loop is not None:
        yield loop
    if kernel.kernel.eventloop is not None:
        yield "the event loop of a graphical toolkit"
    if debugging.was_attached(kernel):
        yield "threads of a debugger"
        return
    own = kernel.threads()
    known: set[int | None] = {os.getpid()}  # after a fork the main thread does not know its own
    alone = True
    for each in threading.enumerate():
        known.add(each.native_id)
        strange = each not in own and each is not threading.main_thread()
        if strange and each.name not in _OURS and type(each).__name__ not in _HARMLESS:
            alone = False
            yield f"the thread {each.name!r}"
    if alone:  # or it might be computing in a native pool
        yield from _native(known, pools.left(mapped))
    yield from _devices(procfs.opened() if opened is None else opened)
    # A parked one has no device open, and its context is in this process all the same.
    if parking.is_parked(parking.Where.here()):
        yield "GPU memory that is parked"


def _native(known: set[int | None], pooled: int) -> Iterator[str]:
    """Threads that libraries started. One without a name of its own bears the process's."""
    plain = procfs.name(os.getpid())
    until = time.monotonic() + _SETTLED
    while True:
        names = {tid: procfs.name(tid) for tid in procfs.threads(os.getpid()) if tid not in known}
        nameless = {tid for tid, name in names.items() if name == plain}
        strange = len(nameless) - pooled
        if strange <= 0 or nameless <= _nameless or time.monotonic() > until:
            break
        time.sleep(_STEP)
    if strange > 0:
        _nameless.update(nameless)
        several = f"{strange} threads" if strange > 1 else "a thread"
        yield f"{several} of a native library"
    for name in sorted({*names.values()} - {plain, ""}):
        if not name.startswith(_AGAIN):
            yield f"the native thread {name!r}"


def _devices(opened: Mapping[int, str]) -> Iterator[str]:
    for prefix, what in _DEVICES.items():
        if any(target.startswith(prefix) for target in opened.values()):
            yield what
