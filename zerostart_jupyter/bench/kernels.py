"""Kernels as a benchmark uses them: started by their kernelspec, one cell after the other."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator, Mapping
from typing import Any

from jupyter_client.manager import KernelManager

PATIENCE = 600.0  # seconds for any one cell


@contextlib.contextmanager
def kernel(name: str) -> Iterator[Any]:
    """A client of a kernel that is started now; it may not answer yet."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel()
    client = manager.client()
    client.start_channels()
    try:
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def run(client: Any, code: str, **options: Any) -> Mapping[str, Any]:
    """Run a cell and wait for its reply; the first may wait until the kernel listens.

    What it prints is taken meanwhile, as frontends do: libzmq comes back to a kernel that changed
    its sockets only where somebody listens.
    """
    import zmq

    shell, iopub = client.shell_channel, client.iopub_channel
    both = zmq.Poller()
    for each in (shell, iopub):
        both.register(each.socket, zmq.POLLIN)
    asked = client.execute(code, **{"silent": True, **options})
    deadline = time.monotonic() + PATIENCE
    while time.monotonic() < deadline:
        ready = dict(both.poll(1000))
        if iopub.socket in ready:
            iopub.get_msg(timeout=0)
        if shell.socket in ready:
            message: Mapping[str, Any] = shell.get_msg(timeout=0)
            if message["parent_header"].get("msg_id") == asked:
                check(message)
                return message
    raise TimeoutError(f"no reply to {code!r} within {PATIENCE:.0f} s")


def seconds(client: Any, code: str) -> float:
    """How long this takes, as the kernel measures it."""
    timed = (
        f"import time; _began = time.perf_counter(); {code}; _took = time.perf_counter() - _began"
    )
    message = run(client, timed, user_expressions={"took": "_took"})
    return float(message["content"]["user_expressions"]["took"]["data"]["text/plain"])


def check(reply: Mapping[str, Any]) -> None:
    """Raise what went wrong in a cell."""
    if reply["content"]["status"] != "ok":
        raise RuntimeError("\n".join(reply["content"].get("traceback", ["the cell failed"])))
