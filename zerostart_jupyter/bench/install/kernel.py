"""A warm `%zs_install` in a live kernel, as its front end sees it."""

from __future__ import annotations

import ast
import contextlib
import statistics
import time
from collections.abc import Iterator
from typing import Any

from jupyter_client.manager import KernelManager

from zerostart_jupyter.bench.install.turns import PATIENCE, Failed, Turn

_CELLS = 20  # of each kind, by turns
_IMPORTED = """
import importlib.metadata as _metadata, sys
_held = sorted({name.lower().replace("_", "-")
    for top, names in _metadata.packages_distributions().items() if top in sys.modules
    for name in names})
"""


def warm_cells(turn: Turn, rounds: int) -> list[float]:
    """Seconds that the cell takes longer than an empty one; each round a median of its own.

    What a bare kernel has imported is left out: another version of it could not be installed.
    """
    with _kernel(turn) as client:
        held = _imported(client)
        specs = [spec for spec in turn.specs if spec not in held]
        cell = f"%zs_install --index-url {turn.index.url} {' '.join(specs)};"
        _seconds(client, "%load_ext zerostart")
        _seconds(client, cell.replace("%zs_install", "%zs_install --wait"))
        _seconds(client, cell)
        return [_over_empty(client, cell) for _ in range(rounds)]


def _over_empty(client: Any, cell: str) -> float:
    pairs = [(_seconds(client, cell), _seconds(client, "pass")) for _ in range(_CELLS)]
    ours, empty = zip(*pairs, strict=True)
    return float(statistics.median(ours) - statistics.median(empty))


def _imported(client: Any) -> set[str]:
    """The distributions of which the kernel has imported something."""
    reply = _reply(client, client.execute(_IMPORTED, user_expressions={"held": "_held"}))
    found: set[str] = set(ast.literal_eval(reply["user_expressions"]["held"]["data"]["text/plain"]))
    return found


def _seconds(client: Any, code: str) -> float:
    """From the request to its reply."""
    began = time.perf_counter()
    asked = client.execute(code)
    content = _reply(client, asked)
    took = time.perf_counter() - began
    while True:
        heard = client.get_iopub_msg(timeout=PATIENCE)
        ours = heard["parent_header"].get("msg_id") == asked
        if ours and heard["content"].get("execution_state") == "idle":
            break
    if content["status"] != "ok":
        raise Failed(content.get("evalue", "the cell failed"))
    return took


def _reply(client: Any, asked: str) -> dict[str, Any]:
    while True:
        message = client.get_shell_msg(timeout=PATIENCE)
        if message["parent_header"].get("msg_id") == asked:
            content: dict[str, Any] = message["content"]
            return content


@contextlib.contextmanager
def _kernel(turn: Turn) -> Iterator[Any]:
    manager = KernelManager(kernel_name="python3")
    manager.start_kernel(env=turn.environ, cwd=str(turn.scratch))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield client
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
