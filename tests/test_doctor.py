"""Doctor as a user reads it: every line has a reason, and what does not work a next step."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from places import PLACES, Place


def ask(cache: Path) -> tuple[str, list[dict[str, Any]]]:
    """The table and the objects of `zerostart doctor` with this cache."""
    environ = {**os.environ, "ZEROSTART_CACHE": str(cache)}
    command = [sys.executable, "-m", "zerostart", "doctor"]
    said = [
        subprocess.run(
            [*command, *more], env=environ, check=True, capture_output=True, text=True, timeout=120
        ).stdout
        for more in ([], ["--json"])
    ]
    return said[0], json.loads(said[1])


@pytest.mark.parametrize("usable", [True, False], ids=["a cache", "a file for a cache"])
def test_every_line_has_a_reason_and_a_failure_a_next_step(usable: bool, tmp_path: Path) -> None:
    cache = tmp_path / "cache"
    if not usable:
        cache.touch()
    table, objects = ask(cache)
    assert len({each["name"] for each in objects}) == len(objects)
    for each in objects:
        assert list(each) == ["name", "ok", "reason", "remedy"]
        assert each["reason"]
        assert each["ok"] or each["remedy"]
        assert f"{'✓' if each['ok'] else '✗'} {each['name']} " in table
        assert each["reason"] in table
        assert each["remedy"] in table
    found = {each["name"]: each for each in objects}
    assert found["package cache"]["ok"] == usable
    if not usable:
        assert "ZEROSTART_CACHE" in found["package cache"]["remedy"]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.name)
def test_it_says_why_not_wherever_it_is_asked(place: Place) -> None:
    found = place.finds()
    for each in found.values():
        assert each.ok or (each.reason and each.remedy), each.name
    assert found["snapshot: portable"], "there is always a way"
    assert bool(found["snapshot: park"]) == place.gpu
