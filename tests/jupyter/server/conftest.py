"""One server for all tests of this folder; each test uses kernels' ids of its own."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from tests.servers.jupyter import Jupyter, serve

BASE = "/hub/user/ada/"


@pytest.fixture(scope="package")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Jupyter]:
    """A server below a base URL, as JupyterHub starts them."""
    home: Path = tmp_path_factory.mktemp("server")
    with serve(home, options=[f"--ServerApp.base_url={BASE}"]) as running:
        yield running


@pytest.fixture(scope="package")
def http(server: Jupyter) -> Iterator[httpx.Client]:
    """A client of that server, with its token."""
    with server.client() as client:
        yield client
