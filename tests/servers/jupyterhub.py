"""A real JupyterHub with its own proxy on loopback; users' servers are processes of this user."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

from tests.servers.jupyter import ROOT, environment, stop, until

PROXY = Path(__file__).with_name("proxy") / "node_modules" / ".bin" / "configurable-http-proxy"
PATIENCE = 240.0  # seconds; a hub and a server after it take long to import
ADMIN = "a-token-of-the-tests-for-the-hub-itself"

CONFIGURATION = """
import json
given = json.loads({given!r})
c.JupyterHub.bind_url = given["url"]
c.JupyterHub.hub_port = given["hub"]
c.JupyterHub.data_files_path = given["share"]
c.ConfigurableHTTPProxy.command = given["proxy"]
c.ConfigurableHTTPProxy.api_url = given["api"]
c.JupyterHub.authenticator_class = "dummy"
c.Authenticator.allow_all = True
c.JupyterHub.spawner_class = "simple"
c.SimpleLocalProcessSpawner.home_dir_template = given["homes"] + "/{{username}}"
c.Spawner.cmd = given["server"]
c.Spawner.environment = given["environment"]
c.Spawner.http_timeout = c.Spawner.start_timeout = given["patience"]
c.JupyterHub.services = [{{"name": "tests", "api_token": given["token"]}}]
c.JupyterHub.load_roles = [{{
    "name": "tests",
    "scopes": ["admin:users", "admin:servers", "tokens"],
    "services": ["tests"],
}}]
"""


@dataclass(frozen=True)
class Hub:
    """A running hub: its public address, which ends with a slash, and where its users live."""

    url: str
    homes: Path
    runtime: Path

    def ask(self, method: str, path: str, **options: Any) -> httpx.Response:
        """What the hub's own API says to the tests."""
        headers = {"Authorization": f"token {ADMIN}"}
        address = f"{self.url}hub/api/{path}"
        answer = httpx.request(method, address, headers=headers, timeout=PATIENCE, **options)
        answer.raise_for_status()
        return answer

    def token(self, user: str) -> str:
        """A token of a user, who is made if there is none of that name."""
        with contextlib.suppress(httpx.HTTPStatusError):
            self.ask("post", f"users/{user}")
        return str(self.ask("post", f"users/{user}/tokens").json()["token"])

    def start(self, user: str) -> str:
        """Start a user's server; returns its address, which ends with a slash."""
        self.ask("post", f"users/{user}/server")

        def ready() -> bool:
            return bool(self.ask("get", f"users/{user}").json()["servers"].get("", {}).get("ready"))

        until(ready, f"the server of {user}", PATIENCE)
        return f"{self.url}user/{user}/"


@contextlib.contextmanager
def hub(home: Path) -> Iterator[Hub]:
    """Start a hub and its proxy, and stop them and what they started at the end."""
    public, api, inner = _free_ports(3)
    homes, enabled = home / "homes", home / "config" / "jupyter_server_config.d"
    for folder in (homes, enabled, home / "runtime"):
        folder.mkdir(parents=True)
    for file in (ROOT / "labextension" / "jupyter-config" / "server-config").iterdir():
        shutil.copy(file, enabled)
    kept = environment(home)
    given = {
        "url": f"http://127.0.0.1:{public}/",
        "api": f"http://127.0.0.1:{api}",
        "hub": inner,
        "proxy": [str(Path(sys.prefix) / "bin" / "node"), str(PROXY)],
        "server": [sys.executable, "-m", "jupyterhub.singleuser", "--allow-root"],
        "share": str(Path(sys.prefix) / "share" / "jupyterhub"),
        "homes": str(homes),
        "environment": {name: value for name, value in kept.items() if name != "HOME"},
        "patience": int(PATIENCE),
        "token": ADMIN,
    }
    (home / "jupyterhub_config.py").write_text(CONFIGURATION.format(given=json.dumps(given)))
    log = home / "hub.log"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "jupyterhub", "-f", "jupyterhub_config.py"],
            env={**kept, "CONFIGPROXY_AUTH_TOKEN": "of-the-tests"},
            cwd=home,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        running = Hub(given["url"], homes, home / "runtime")
        try:
            # Not through the proxy: that serves nobody any more who came before the hub was there.
            until(
                lambda: _answers(f"http://127.0.0.1:{inner}/", process, log),
                "the hub to answer",
                PATIENCE,
            )
            yield running
        finally:
            stop(process)


def _answers(url: str, process: subprocess.Popen[bytes], log: Path) -> bool:
    if process.poll() is not None:
        raise AssertionError(f"the hub ended:\n{log.read_text()}")
    with contextlib.suppress(httpx.TransportError):
        return httpx.get(f"{url}hub/api/", timeout=PATIENCE).status_code == 200
    return False


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as held:
        made = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in made:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in made]
