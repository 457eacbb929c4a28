"""A terminal shell and a real kernel, each with directories of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from jupyter_client.blocking.client import BlockingKernelClient
from jupyter_client.manager import KernelManager

from tests.snapshot.kernels import NotebookClient

ROOT = Path(__file__).parents[2]


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every directory a kernel writes to, below tmp_path."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        folder = tmp_path / name.lower()
        folder.mkdir()
        monkeypatch.setenv(name, str(folder))
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_", "ZS_")):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("ZS_CHUNK_MB", "1")
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    return tmp_path


@pytest.fixture
def shell(private: Path) -> Iterator[InteractiveShell]:
    """An IPython without a kernel, with the extension loaded."""
    made = InteractiveShell()
    made.run_line_magic("load_ext", "zerostart")
    yield made
    made.run_line_magic("unload_ext", "zerostart")
    made.history_manager.end_session()
    made.history_manager.save_thread and made.history_manager.save_thread.stop()


class Kernel:
    """A real kernel and its client; `run` gives a cell's text and raises on its error."""

    def __init__(self, manager: KernelManager, client: BlockingKernelClient) -> None:
        self.manager = manager
        self.client = client

    def run(self, code: str, *, timeout: float = 60) -> list[dict[str, object]]:
        """The iopub contents of one cell that succeeds, in order."""
        found, reply = self.attempt(code, timeout=timeout)
        assert reply["status"] == "ok", reply
        return found

    def attempt(
        self, code: str, *, timeout: float = 60
    ) -> tuple[list[dict[str, object]], dict[str, object]]:
        """The same for a cell that may fail: its outputs and its reply's content."""
        found: list[dict[str, object]] = []
        reply = self.client.execute_interactive(
            code,
            timeout=timeout,
            output_hook=lambda message: found.append(
                {"type": message["msg_type"], "date": message["header"]["date"]}
                | message["content"]
            ),
        )
        return found, reply["content"]


@pytest.fixture
def kernel(private: Path) -> Iterator[Kernel]:
    """A real ipykernel with the extension loaded."""
    manager = KernelManager(kernel_name="python3", client_factory=NotebookClient)
    manager.start_kernel(cwd=str(private))
    client = manager.client()
    client.start_channels()
    try:
        client.wait_for_ready(timeout=60)
        made = Kernel(manager, client)
        made.run("%load_ext zerostart")
        yield made
    finally:
        client.stop_channels()
        manager.shutdown_kernel(now=True)
