"""One server below a base URL, as JupyterHub starts them, for all tests that leave it as it is."""

from __future__ import annotations

import contextlib
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import httpx
import pytest

from tests.servers import zerostart_census as census
from tests.servers.jupyter import PATIENCE, TOKEN, Jupyter, environment, serve, until
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import kernelspec
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog

BASE = "/hub/user/ada/"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server that also tells what the extension registered in it."""
    home = tmp_path_factory.mktemp("server")
    enabled = home / "config" / "jupyter_server_config.d"
    enabled.mkdir(parents=True)
    extensions = {"ServerApp": {"jpserver_extensions": {"zerostart_census": True}}}
    (enabled / "zerostart_census.json").write_text(json.dumps(extensions))
    path = f"{Path(census.__file__).parent}:{environment(home)['PYTHONPATH']}"
    options = [f"--ServerApp.base_url={BASE}", "--ServerApp.authorizer_class=zerostart_census.Gate"]
    with serve(home, options=options, environ={"PYTHONPATH": path}) as running:
        yield running


@pytest.fixture(scope="package")
def http(server: Jupyter) -> Iterator[httpx.Client]:
    """A client of that server, with its token."""
    with server.client() as client:
        yield client


@pytest.fixture(scope="package")
def browser(server: Jupyter) -> Iterator[httpx.Client]:
    """A client that is logged in by cookie, as a browser is, on any page it visits."""
    with httpx.Client(base_url=server.url, timeout=PATIENCE) as client:
        client.get("", params={"token": TOKEN}, follow_redirects=True)
        assert client.get("zerostart/api/activity").status_code == 200
        yield client


@pytest.fixture(scope="package")
def registered(server: Jupyter) -> dict[str, list[str]]:
    """Every pattern that the extension added to the running server, with its methods."""
    path = server.home / census.CENSUS
    until(path.exists, "the census")
    found: dict[str, list[str]] = json.loads(path.read_text())
    return found


@pytest.fixture
def catalog(server: Jupyter, monkeypatch: pytest.MonkeyPatch) -> Iterator[Catalog]:
    """The snapshots that the server lists; afterwards there are none."""
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(server.home / "data"))
    made = Catalog(Settings.read({"ZEROSTART_CACHE": str(server.home / "cache")}))
    yield made
    for each in made.list():
        kernelspec.withdraw(each.name, each.id)
    shutil.rmtree(made.store.root / ROOM)


@pytest.fixture
def closed(server: Jupyter) -> Callable[[], AbstractContextManager[None]]:
    """While it is entered, the server's authorizer says no to everybody."""

    @contextlib.contextmanager
    def close() -> Iterator[None]:
        gate = server.home / census.CLOSED
        gate.touch()
        try:
            yield
        finally:
            gate.unlink()

    return close
