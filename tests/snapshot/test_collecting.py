"""The catalogue when it is large, and when it has to become smaller."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from zerostart_jupyter import snapshot
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id


@pytest.fixture
def catalog(private: Path) -> Catalog:
    return Catalog(Settings.read())


def add(catalog: Catalog, name: str, created: float, **about: Any) -> str:
    key = fresh_id()
    path = catalog.store.root / "snapshots" / key
    path.mkdir(mode=0o700)
    (path / "big.img").write_bytes(b"x")
    marker = {"created": created, "about": {"name": name, "bytes": 100, **about}}
    (path / "entry.json").write_text(json.dumps(marker))
    return key


def names(catalog: Catalog) -> list[str]:
    return [each.name for each in catalog.list()]


def test_the_oldest_go_first_but_for_what_is_pinned_or_published(catalog: Catalog) -> None:
    for number, name in enumerate(("old", "kept", "chosen", "middle", "new")):
        add(catalog, name, float(number))
    catalog.pin("kept")
    snapshot.publish("chosen")
    assert [each.name for each in catalog.prune(limit=350, dry_run=True)] == ["old", "middle"]
    assert len(names(catalog)) == 5
    gone = snapshot.gc(keep_bytes=350)
    assert [each.name for each in gone] == ["old", "middle"]
    assert names(catalog) == ["kept", "chosen", "new"]
    snapshot.unpin("kept")
    snapshot.gc(keep_bytes=0)
    assert names(catalog) == ["chosen"]
    assert snapshot.gc() == []


def test_one_that_is_being_restored_stays(catalog: Catalog) -> None:
    key = add(catalog, "one", 0.0)
    with catalog.store.lease("snapshots", key):
        assert catalog.prune(limit=0) == []
    assert [each.name for each in catalog.prune(limit=0)] == ["one"]


def test_what_a_marker_says_is_told(catalog: Catalog) -> None:
    add(catalog, "one", 5.0, kernelspec="python3", environment="ab", reason="why", trusted=False)
    (found,) = catalog.list()
    assert (found.kernelspec, found.environment, found.reason) == ("python3", "ab", "why")
    assert (found.pinned, found.trusted) == (False, False)
    assert found.restore_seconds > 0
    assert {"restore_seconds", "kernel_seconds", "pinned"} <= set(found.as_json())
    json.dumps(found.as_json())


def test_markers_stay_private(catalog: Catalog) -> None:
    key = add(catalog, "one", 0.0)
    catalog.pin("one")
    marker = catalog.store.root / "snapshots" / key / "entry.json"
    assert marker.stat().st_mode & 0o777 == 0o600
