"""What is told, and what a late joiner reads, look by look."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.server import watcher as module
from zerostart_jupyter.jupyter.server.watcher import Watcher


@pytest.fixture
def told() -> list[dict[str, Any]]:
    return []


@pytest.fixture
def watcher(tmp_path: Path, told: list[dict[str, Any]]) -> Watcher:
    return Watcher(tmp_path, told.append)


@pytest.fixture
def hub(tmp_path: Path) -> Iterator[Hub]:
    """A hub that writes the status file of kernel `a`."""
    made = Hub()
    status = StatusFile(tmp_path / "kernel-a", "kernel", {}, made)
    yield made
    status.close()


def test_each_change_is_told_once(watcher: Watcher, hub: Hub, told: list[dict[str, Any]]) -> None:
    async def follow() -> None:
        await watcher.look()
        assert told == []
        with operation("load", "model", hub=hub):
            await watcher.look()
            await watcher.look()
            assert len(told) == 1
        await watcher.look()

    asyncio.run(follow())
    assert [(each["kernel"], each["writer"]) for each in told] == [("a", "kernel")] * 2
    assert [event["state"] for event in told[1]["events"]] == ["done"]
    [source] = watcher.sources
    assert source.operations[0]["state"] == "done"


def test_what_can_be_undone_is_told_when_it_changes(
    watcher: Watcher, tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    points = {"on": True, "bytes": 4096, "cells": [[3, 77]], "gaps": [[2, 78, "no"]], "undone": []}
    status = StatusFile(tmp_path / "kernel-a", "kernel", {}, Hub())

    async def follow() -> None:
        await watcher.look()
        assert told == []
        status.note("undo", points)
        await watcher.look()
        await watcher.look()
        [source] = watcher.sources
        assert source.as_json()["undo"] == points
        status.close()
        await watcher.look()

    asyncio.run(follow())
    ours = {"kernel": "a", "writer": "kernel", "events": [], "gone": []}
    assert told == [{**ours, "undo": points}, {**ours, "undo": None}]


def test_a_closed_file_takes_its_operations_along(
    watcher: Watcher, tmp_path: Path, told: list[dict[str, Any]]
) -> None:
    hub = Hub()
    status = StatusFile(tmp_path / "kernel-a", "kernel", {}, hub)

    async def follow() -> None:
        with operation("load", "model", hub=hub) as work:
            await watcher.look()
        status.close()
        await watcher.look()
        assert told[-1]["gone"] == [work.id]
        assert told[-1]["events"] == []

    asyncio.run(follow())
    assert watcher.sources == []


def test_runs_until_it_is_stopped_and_cleans(
    hub: Hub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "INTERVAL", 0)
    monkeypatch.setattr(module, "CLEANING", -1)

    async def follow() -> None:
        loop = asyncio.get_running_loop()
        cleaned, heard = asyncio.Event(), asyncio.Event()
        monkeypatch.setattr(module, "sweep", lambda root: loop.call_soon_threadsafe(cleaned.set))
        watcher = Watcher(tmp_path, lambda data: heard.set())
        task = watcher.start()
        with operation("load", "model", hub=hub):
            await asyncio.wait_for(heard.wait(), 60)
        await asyncio.wait_for(cleaned.wait(), 60)
        await watcher.stop()
        assert task.cancelled()
        await watcher.stop()

    asyncio.run(follow())
    assert (tmp_path / "kernel-a" / "kernel.json").exists()


def test_what_goes_wrong_ends_the_task_and_is_not_hidden(tmp_path: Path, hub: Hub) -> None:
    def refuse(data: dict[str, Any]) -> None:
        raise ValueError("not on this bus")

    async def follow() -> None:
        with operation("load", "model", hub=hub):
            await Watcher(tmp_path, refuse).start()

    with pytest.raises(ValueError, match="not on this bus"):
        asyncio.run(follow())
