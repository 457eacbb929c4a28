"""A real Jupyter server in a process of its own, with directories of its own."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import websocket

from zerostart_jupyter.core.settings import Settings

T = TypeVar("T")

ROOT = Path(__file__).parents[2]
TOKEN = "a-token-of-the-tests"
PATIENCE = 180.0  # seconds; only ever waited for in full when something is broken


@dataclass(frozen=True)
class Jupyter:
    """A running server: where it is, and what it writes to."""

    url: str  # ends with a slash
    home: Path
    pid: int

    @property
    def runtime(self) -> Path:
        return self.home / "runtime"

    @property
    def status(self) -> Path:
        """Below it, each kernel has its status directory."""
        return self.runtime / "zerostart"

    def client(self, **options: Any) -> httpx.Client:
        """An HTTP client with the token."""
        headers = {"Authorization": f"token {TOKEN}"}
        return httpx.Client(base_url=self.url, headers=headers, timeout=PATIENCE, **options)

    @contextlib.contextmanager
    def events(self) -> Iterator[websocket.WebSocket]:
        """The socket on which every client of the server hears Jupyter's events."""
        address = self.url.replace("http", "ws", 1) + "api/events/subscribe"
        socket = websocket.create_connection(
            address, header={"Authorization": f"token {TOKEN}"}, timeout=PATIENCE
        )
        try:
            yield socket
        finally:
            socket.close()


def environment(home: Path) -> dict[str, str]:
    """The environment of a server, or of a kernel, that keeps to `home`."""
    return {
        **{name: value for name, value in os.environ.items() if not name.startswith("JUPYTER")},
        "HOME": str(home),
        "IPYTHONDIR": str(home / "ipython"),
        "JUPYTER_CONFIG_DIR": str(home / "config"),
        "JUPYTER_DATA_DIR": str(home / "data"),
        "JUPYTER_RUNTIME_DIR": str(home / "runtime"),
        "JUPYTER_PLATFORM_DIRS": "1",
        "JUPYTER_PREFER_ENV_PATH": "0",  # what the tests put there comes before what is installed
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH", "")])),
        "ZEROSTART_CACHE": str(home / "cache"),
    }


@contextlib.contextmanager
def serve(
    home: Path,
    *,
    module: str = "jupyter_server",
    options: Sequence[str] = (),
    environ: Mapping[str, str] = {},
    port: int = 0,
) -> Iterator[Jupyter]:
    """Start a server on a loopback port, a free one if 0; stop it, and its kernels, at the end."""
    notebooks = home / "notebooks"
    enabled = home / "config" / "jupyter_server_config.d"
    for folder in (notebooks, enabled):
        folder.mkdir(parents=True, exist_ok=True)
    for file in (ROOT / "labextension" / "jupyter-config" / "server-config").iterdir():
        shutil.copy(file, enabled)
    command = [
        *(sys.executable, "-m", module, "--no-browser", "--allow-root"),
        *("--ServerApp.ip=127.0.0.1", f"--ServerApp.port={port}", "--ServerApp.port_retries=0"),
        f"--ServerApp.root_dir={notebooks}",
        f"--IdentityProvider.token={TOKEN}",
        *options,
    ]
    log = home / "server.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            command,
            env={**environment(home), **environ},
            cwd=notebooks,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        try:
            yield Jupyter(_address(process, home, log), home, process.pid)
        finally:
            stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Have a server end, with what it started; one that does not is killed."""
    process.send_signal(signal.SIGTERM)
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def share_criu(cache: Path) -> None:
    """Have the CRIU that `zerostart setup criu` fetched for the user in this cache too."""
    tools = Settings.read().cache / "tools"
    (cache / "tools").mkdir(parents=True)
    for entry in tools.iterdir() if tools.exists() else ():
        (cache / "tools" / entry.name).symlink_to(entry)


def _address(process: subprocess.Popen[bytes], home: Path, log: Path) -> str:
    """The server's URL, once it answers."""
    about = home / "runtime" / f"jpserver-{process.pid}.json"

    def answers() -> str:
        if process.poll() is not None:
            raise AssertionError(f"the server ended:\n{log.read_text()}")
        with contextlib.suppress(OSError, ValueError, httpx.TransportError):
            url: str = json.loads(about.read_text())["url"]
            httpx.get(f"{url}api", timeout=PATIENCE)
            return url
        return ""

    return until(answers, "the server to answer")


def until(look: Callable[[], T], what: str, patience: float = PATIENCE) -> T:
    """What `look()` returns once it is true; fails after a long while, naming what was awaited."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = look()
        if found:
            return found
        time.sleep(0.05)
    raise AssertionError(f"waited {patience:.0f} s for {what}")
