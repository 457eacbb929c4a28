"""Restoring a kernel beside a fresh one that re-runs its cells; and what a save costs.

Restored and fresh kernels take turns in random order within a round. Time runs from the launch to
the first reply to a cell; a fresh kernel has then re-run the cells that made its state.
"""

from __future__ import annotations

import importlib.util
import os
import random
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from jupyter_client.manager import KernelManager

from zerostart_jupyter import snapshot
from zerostart_jupyter.bench.report import Case, Report, machine, versions
from zerostart_jupyter.core.wording import size

PATIENCE = 600.0  # seconds for any one cell
ARRAYS = 3 << 29  # bytes, unless the machine is too small for it
PREFIX = "bench-"

_TORCH = """
import torch
model = torch.nn.Sequential(torch.nn.Linear(1024, 1024), torch.nn.ReLU(), torch.nn.Linear(1024, 10))
with torch.no_grad(): result = model(torch.ones(1, 1024))
"""


def measure(rounds: int, note: Callable[[str], None], *, arrays: int | None = None) -> Report:
    """Medians over `rounds` of a restore, and of re-running, for each kind of kernel."""
    cases: list[Case] = []
    for name, cells in _kinds(arrays or _fitting()).items():
        snapshot_name = PREFIX + str(os.getpid())
        with _kernel("python3") as client:
            _run(client, cells)
            frozen = tuple(_saved(client, snapshot_name) for _ in range(rounds))
        info = snapshot.show(snapshot_name)
        try:
            spec = snapshot.publish(snapshot_name).name
            restored: list[float] = []
            fresh: list[float] = []
            for number in range(rounds):
                note(f"{name}, round {number + 1} of {rounds}")
                turns = [(restored, spec, "1"), (fresh, "python3", cells)]
                for times, kernel, code in random.sample(turns, 2):
                    times.append(_to_first_reply(kernel, code))
        finally:
            snapshot.delete(snapshot_name)
        remark = f"{size(info.bytes)} of images"
        cases.append(Case(f"{name}: first reply", tuple(restored), "re-run", tuple(fresh), remark))
        remark = "the running kernel frozen by a save"
        cases.append(Case(f"{name}: save", frozen, "re-run", tuple(fresh), remark))
    title = "Restoring a kernel instead of re-running it"
    about = versions("zerostart-jupyter", "ipykernel", "jupyter-client", "torch")
    return Report(title, tuple(cases), about, machine())


def _kinds(arrays: int) -> Mapping[str, str]:
    found = {"small": "x = 41"}
    if importlib.util.find_spec("torch"):
        found["torch"] = _TORCH
    if importlib.util.find_spec("numpy"):
        found[f"arrays of {size(arrays)}"] = (
            f"import numpy; a = numpy.random.default_rng(0).random({arrays // 8})"
        )
    return found


def _fitting() -> int:
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_AVPHYS_PAGES")
    return min(ARRAYS, memory // 4)


def _saved(client: Any, name: str) -> float:
    """Save over the last one; returns the seconds the kernel was frozen.

    As a notebook does, the client listens to iopub meanwhile: one that does not comes back late.
    """
    code = f"import zerostart_jupyter.snapshot as s; s.snapshot({name!r}, replace=True)"
    reply = client.execute_interactive(code, timeout=PATIENCE, output_hook=lambda message: None)
    _check(reply)
    return snapshot.show(name).frozen_seconds


def _to_first_reply(kernel: str, code: str) -> float:
    began = time.perf_counter()
    with _kernel(kernel) as client:
        _run(client, code)
        return time.perf_counter() - began


@contextmanager
def _kernel(name: str) -> Iterator[Any]:
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def _run(client: Any, code: str) -> None:
    """Run a cell and wait for its reply; the first may wait until the kernel listens."""
    asked = client.execute(code, silent=True)
    while True:
        message = client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == asked:
            break
    _check(message)


def _check(reply: Mapping[str, Any]) -> None:
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"].get("traceback", ["the cell failed"])))
