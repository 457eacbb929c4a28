"""Passwords and signatures are used, and stand in nothing that is kept, shown or raised."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.wheels import Wheel, make
from tests.servers.index import Index
from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.install import IndexOptions, gather, install, retries
from zerostart_jupyter.install.requirements import Request

SECRET = "s3cr3t-w0rd"


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def wheel(index: Index) -> Wheel:
    made = make("zs-secret")
    publish(index, made)
    index.of(made).password = SECRET
    return made


def by_index(index: Index, wheel: Wheel) -> Request:
    url = index.url.replace("://", f"://user:{SECRET}@")
    return gather(["zs-secret"], index=IndexOptions(index_url=url))


def by_extra_index(index: Index, wheel: Wheel) -> Request:
    url = index.url.replace("://", f"://user:{SECRET}@")
    options = IndexOptions(index_url=index.url, extra_index_urls=(url,))
    return gather(["zs-secret"], index=options)


def by_address(index: Index, wheel: Wheel) -> Request:
    url = index.file_url(wheel).replace("://", f"://user:{SECRET}@")
    return gather([f"zs-secret @ {url}"], index=IndexOptions(index_url=index.url))


WAYS = [by_index, by_extra_index, by_address]


def told(request: Request, settings: Settings, folder: Path) -> tuple[str, bool]:
    """All that an install keeps, shows or raises, as one text, and whether it went well."""
    hub = Hub()
    seen: list[object] = []
    hub.subscribe(seen.extend)
    said = [request.title]
    well = True
    status = StatusFile(folder, "kernel", {}, hub)
    try:
        found = install(request=request, settings=settings, hub=hub, activate=False)
        said += [repr(found), str(found.as_json())]
    except ZerostartError as error:
        well = False
        said += _chain(error)
    hub.flush()
    said.append(status.path.read_text())
    status.close()
    said += map(repr, seen)
    for path in settings.cache.rglob("*"):
        said.append(str(path))
        if path.is_file():
            said.append(path.read_bytes().decode("latin-1"))
    return "\n".join(said), well


def _chain(error: BaseException | None) -> list[str]:
    said: list[str] = []
    while error is not None:
        said += [repr(error), str(error)]
        error = error.__cause__ or error.__context__
    return said


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_nothing_tells_a_password(
    way: Callable[[Index, Wheel], Request],
    index: Index,
    wheel: Wheel,
    settings: Settings,
    tmp_path: Path,
) -> None:
    text, well = told(way(index, wheel), settings, tmp_path / "status")
    assert well
    assert SECRET not in text
    index.of(wheel).answers = [(403, {})] * 100
    text, well = told(way(index, wheel), settings.with_(cache=tmp_path / "other"), tmp_path / "s2")
    assert not well
    assert SECRET not in text
