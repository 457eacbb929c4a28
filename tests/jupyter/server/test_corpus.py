"""The corpus of several kernels: what the watcher tells of readings; the panel's tests fold it."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from zerostart_jupyter.jupyter.server.watcher import Watcher

CORPUS = json.loads((Path(__file__).parents[2] / "corpus" / "sources.json").read_text())


def write(root: Path, reading: list[dict[str, Any]]) -> None:
    """Have the status files say this, and no other file be there."""
    for old in root.glob("*/*.json"):
        old.unlink()
    for source in reading:
        folder = root / f"kernel-{source['kernel']}"
        folder.mkdir(exist_ok=True)
        said = {name: source[name] for name in ("operations", "undo") if name in source}
        (folder / f"{source['writer']}.json").write_text(json.dumps(said))


def listed(watcher: Watcher) -> list[dict[str, Any]]:
    """What a client that joins now is told, in the corpus's order."""
    sources = (source.as_json() for source in watcher.sources)
    return sorted(sources, key=lambda each: (each["kernel"], each["writer"]))


@pytest.mark.parametrize("case", CORPUS, ids=[case["name"] for case in CORPUS])
def test_corpus(case: dict[str, Any], tmp_path: Path) -> None:
    heard: list[dict[str, Any]] = []
    watcher = Watcher(tmp_path, heard.append)

    async def follow() -> None:
        first, *later = case["readings"]
        write(tmp_path, first)
        await watcher.look()
        assert listed(watcher) == first
        heard.clear()  # who joins now is told the reading itself
        for reading in later:
            write(tmp_path, reading)
            await watcher.look()

    asyncio.run(follow())
    assert heard == case["heard"]
    assert listed(watcher) == case["readings"][-1]
