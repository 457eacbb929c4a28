"""What is told of the list of snapshots: that it changed, whoever changed it."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.servers.jupyter import Jupyter, environment
from zerostart_jupyter.jupyter.server.listing import Listing
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, fresh_id


def save(catalog: Catalog, name: str) -> str:
    """A new snapshot's id."""
    key = fresh_id()
    with catalog.store.publish(ROOM, key, {"name": name, "bytes": 3}):
        pass
    return key


def test_each_change_is_told_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("JUPYTER_DATA_DIR", str(tmp_path / "data"))
    told: list[dict[str, Any]] = []
    listing = Listing(told.append)

    async def follow() -> None:
        await listing.look()
        catalog = Catalog()
        await listing.look()
        assert told == []
        key = save(catalog, "ready")
        for change in (
            lambda: save(catalog, "trained"),
            lambda: catalog.rename("ready", "loaded"),
            lambda: catalog.amend(key, trusted=True),
            lambda: catalog.delete("trained"),
        ):
            await listing.look()
            change()
            await listing.look()
            await listing.look()

    asyncio.run(follow())
    assert [each["count"] for each in told] == [1, 2, 2, 2, 1]


def test_a_link_and_what_has_no_marker_are_no_matter(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path))
    told: list[dict[str, Any]] = []
    room = tmp_path / ROOM

    async def follow() -> None:
        listing = Listing(told.append)
        await listing.look()
        (room / "half-written").mkdir(parents=True)
        (room / "file").touch()
        os.symlink("nowhere", room / "link")
        await listing.look()

    asyncio.run(follow())
    assert told == []


def test_what_a_shell_deletes_is_told_to_every_client(server: Jupyter, catalog: Catalog) -> None:
    save(catalog, "ready")
    save(catalog, "trained")

    def heard(count: int) -> None:
        while (told := json.loads(events.recv())).get("count") != count:
            pass
        assert told["schema_id"] == "urn:zerostart:snapshots"

    with server.events() as events:
        save(catalog, "loaded")
        heard(3)
        command = [sys.executable, "-m", "zerostart", "snapshot", "delete", "ready"]
        subprocess.run(command, env=environment(server.home), check=True, capture_output=True)
        heard(2)
