"""What an undo tells IPython: the cells that were run, and the answer to the one that asked.

A part of the `adapter`, like `rebuilt`: prompt numbers go on, and the history keeps what was run.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Mapping, Sequence

from zerostart_jupyter.snapshot.adapter import LiveKernel

_left_open: list[object] = []  # connections of the process that we were forked from


def inputs(kernel: LiveKernel, line: int) -> dict[str, list[str]]:
    """The lines of history from one on, raw and as IPython read them."""
    history = kernel.kernel.shell.history_manager
    return {
        "raw": list(history.input_hist_raw[line:]),
        "parsed": list(history.input_hist_parsed[line:]),
    }


def take_inputs(kernel: LiveKernel, line: int, found: Mapping[str, Sequence[str]]) -> None:
    """Put these lines of history in place of all from one on."""
    history = kernel.kernel.shell.history_manager
    history.input_hist_raw[line:] = found["raw"]
    history.input_hist_parsed[line:] = found["parsed"]


def write_history(kernel: LiveKernel) -> None:
    """Have the history on disk hold all that was run."""
    kernel.kernel.shell.history_manager.writeout_cache()


def reopen_history(kernel: LiveKernel) -> None:
    """Leave the connection to the history's file to the process that opened it.

    SQLite's may not be used after a fork. What waited to be written is that process's too.
    """
    history = kernel.kernel.shell.history_manager
    _left_open.append(history.db)
    history.db_input_cache.clear()
    history.db_output_cache.clear()
    history.db_input_cache_lock = threading.Lock()
    history.db_output_cache_lock = threading.Lock()
    if history.enabled and str(history.hist_file) != ":memory:":
        _close_all(os.path.realpath(history.hist_file))
        history.init_db()


def answer(kernel: LiveKernel, result: object) -> None:
    """Send the reply of a cell that succeeded, and show its result."""
    own, shell = kernel.kernel, kernel.kernel.shell
    identities, parent = kernel.request()
    content = parent["content"]
    # Some versions of IPython count before they run a cell, others after it.
    lines = shell.history_manager.input_hist_raw
    number = len(lines) - 1
    if not (content.get("silent") or lines[-1].rstrip().endswith(";")):
        shell.displayhook(result)
    body = {
        "status": "ok",
        "execution_count": number,
        "user_expressions": shell.user_expressions(content.get("user_expressions") or {}),
        "payload": [],
    }
    metadata = own.finish_metadata(parent, own.init_metadata(parent), body)
    shell.execution_count = number + 1
    kernel.flush()
    sender = own.shell_channel_thread.manager.get_subshell_to_shell_channel_socket(None)
    own.session.send(sender, "execute_reply", body, parent, metadata=metadata, ident=identities)


def _close_all(path: str) -> None:
    """Close our descriptors of a file and its companions, beneath whoever thinks to have them."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if os.readlink(f"/proc/self/fd/{entry}").startswith(path):
                os.close(int(entry))
