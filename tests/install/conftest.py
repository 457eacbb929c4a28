from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.install.coming import Coming
from tests.install.wheels import Wheel
from tests.servers.index import Index
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, gather, install
from zerostart_jupyter.install.gate import gate
from zerostart_jupyter.install.installation import Installation


@pytest.fixture(autouse=True)
def alone(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """No index settings of this machine, but for tests that want them, and an interpreter as it
    was before."""
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    if request.node.get_closest_marker("network") is None:
        for name in list(os.environ):
            if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
                monkeypatch.delenv(name)
        monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
        monkeypatch.setenv("UV_NO_CONFIG", "1")
        monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
        monkeypatch.setenv("NETRC", str(tmp_path / "no-netrc"))
    monkeypatch.setenv("PATH", os.environ["PATH"])
    monkeypatch.setenv("PYTHONPATH", os.environ.get("PYTHONPATH", ""))
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for pending in list(gate.pending):
        gate.release(pending)
    for name in set(sys.modules) - modules:
        origin = getattr(sys.modules[name], "__file__", None) or ""
        if origin.startswith(str(tmp_path)):
            del sys.modules[name]


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings.read(cache=tmp_path / "cache", http_timeout=5.0, chunk_mb=1)


@pytest.fixture
def store(settings: Settings) -> Store:
    return Store(settings.cache)


@pytest.fixture
def index() -> Iterator[Index]:
    with Index() as running:
        yield running


Bring = Callable[..., Installation]


@pytest.fixture
def bring(index: Index, settings: Settings) -> Bring:
    """Install from the loopback index."""

    def install_(*specs: str, **options: object) -> Installation:
        request = gather(specs, index=IndexOptions(index_url=index.url))
        given: dict[str, object] = {"settings": settings, "hub": Hub(), **options}
        return install(request=request, **given)  # type: ignore[arg-type]

    return install_


def publish(index: Index, *wheels: Wheel) -> None:
    """Offer wheels on a running index."""
    index.wheels.update({wheel.filename: wheel for wheel in wheels})


@pytest.fixture
def coming(tmp_path: Path) -> Iterator[Coming]:
    found = Coming(tmp_path / "env", {"gt-one": ["gt-two"], "gt-two": [], "gt-three": []})
    yield found
    gate.release(found.pending)


def leftovers(store: Store) -> list[str]:
    """Anything below the cache that looks finished, or was forgotten."""
    found = [
        f"{room}/{entry.key}"
        for room in ("wheels", "environments")
        for entry in store.entries(room)
    ]
    found += [str(path) for path in store.root.glob("*/.staging-*")]
    return found
