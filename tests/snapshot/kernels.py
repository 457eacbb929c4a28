"""Real kernels for the tests: start one, run cells in it, look at what it leaves behind."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.patience import PATIENCE


@dataclass
class Ran:
    """What a cell gave: its text on stdout, its result, its error, its prompt number."""

    text: str
    result: str
    error: str
    number: int


class NotebookClient(BlockingKernelClient):
    """A client that names, as notebooks do, the cell it runs; others are taken for consoles."""

    def execute(self, code: str, silent: bool = False, **options: Any) -> str:
        """As its parent does."""
        content = {
            "code": code,
            "silent": silent,
            "store_history": options.get("store_history", not silent),
            "user_expressions": options.get("user_expressions") or {},
            "allow_stdin": options.get("allow_stdin", True),
            "stop_on_error": options.get("stop_on_error", True),
        }
        about = {"cellId": "a-cell"}
        message = self.session.msg("execute_request", content, metadata=about)
        self.shell_channel.send(message)
        return str(message["header"]["msg_id"])


class Cells:
    """A client of a kernel that runs cells and waits for all of their output."""

    def __init__(self, client: BlockingKernelClient) -> None:
        self.client = client

    def attempt(self, code: str) -> Ran:
        """Run a cell that may fail."""
        text, result, errors = [], [], []

        def take(message: dict[str, Any]) -> None:
            content = message["content"]
            if message["msg_type"] == "stream":
                text.append(content["text"])
            elif message["msg_type"] == "execute_result":
                result.append(content["data"]["text/plain"])
            elif message["msg_type"] == "error":
                errors.append(f"{content['ename']}: {content['evalue']}")

        reply = self.client.execute_interactive(code, timeout=PATIENCE, output_hook=take)
        assert reply["content"]["status"] == ("error" if errors else "ok")
        number = reply["content"]["execution_count"]
        return Ran("".join(text), "".join(result), "".join(errors), number)

    def output_of(self, request: str) -> list[str]:
        """What a cell that was sent already gives, text and results, until it is done."""
        found = []
        while True:
            message = self.client.get_iopub_msg(timeout=PATIENCE)
            if message["parent_header"].get("msg_id") != request:
                continue
            content = message["content"]
            if message["msg_type"] == "stream":
                found.append(content["text"])
            elif message["msg_type"] == "execute_result":
                found.append(content["data"]["text/plain"])
            elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                return found

    def run(self, code: str) -> str:
        """Run a cell that succeeds; returns its result, or else its text."""
        ran = self.attempt(code)
        assert not ran.error, ran.error
        return ran.result or ran.text.strip()


class Kernel(Cells):
    """A kernel that a KernelManager owns, as in every client of Jupyter."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        super().__init__(client)
        self.manager = manager

    @property
    def pid(self) -> int:
        """The process that the manager owns."""
        return int(self.manager.provisioner.pid)

    @property
    def connection(self) -> dict[str, Any]:
        """What its connection file says."""
        return dict(self.manager.get_connection_info())


@contextmanager
def kernel(name: str = "python3", **options: Any) -> Iterator[Kernel]:
    """A kernel of this kernelspec with a client; ended at the end."""
    manager = KernelManager(kernel_name=name)
    manager.start_kernel(**options)
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=PATIENCE)
        yield Kernel(manager, client)
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)


def ours(marker: Path) -> list[psutil.Process]:
    """Processes whose environment names this directory: kernels, shepherds, dumpers, CRIU."""
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid != os.getpid() and str(marker) in process.environ().values():
                found.append(process)
        except (psutil.NoSuchProcess, psutil.AccessDenied, psutil.ZombieProcess):
            continue
    return found
