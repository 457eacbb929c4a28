"""Whose snapshots are listed, and what it takes to list many of them."""

from __future__ import annotations

import io
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from zerostart_jupyter.core.errors import SnapshotNotFound
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, fresh_id

SOMEBODY = 54321  # a user id that nobody has
MANY = 1000

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")


@pytest.fixture
def catalog(private: Path) -> Catalog:
    return Catalog(Settings.read())


def add(catalog: Catalog, name: str, **about: Any) -> Path:
    """A snapshot's directory."""
    key = fresh_id()
    with catalog.store.publish(ROOM, key, {"name": name, **about}):
        pass
    return catalog.store.path(ROOM, key)


def names(catalog: Catalog) -> list[str]:
    return [each.name for each in catalog.list()]


def given_away(path: Path, elsewhere: Path) -> None:
    os.chown(path, SOMEBODY, SOMEBODY)


def with_a_marker_of_somebody(path: Path, elsewhere: Path) -> None:
    os.chown(path / MARKER, SOMEBODY, SOMEBODY)


def linked(path: Path, elsewhere: Path) -> None:
    path.rename(elsewhere)
    path.symlink_to(elsewhere)


def linked_to_somebody(path: Path, elsewhere: Path) -> None:
    linked(path, elsewhere)
    os.chown(elsewhere, SOMEBODY, SOMEBODY)


def with_a_linked_marker(path: Path, elsewhere: Path) -> None:
    (path / MARKER).rename(elsewhere)
    (path / MARKER).symlink_to(elsewhere)


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(given_away, marks=as_root),
        pytest.param(with_a_marker_of_somebody, marks=as_root),
        pytest.param(linked_to_somebody, marks=as_root),
        linked,
        with_a_linked_marker,
    ],
)
def test_what_may_be_another_users_is_not_there(
    catalog: Catalog, tmp_path: Path, change: Callable[[Path, Path], None]
) -> None:
    add(catalog, "mine", bytes=3)
    theirs = add(catalog, "theirs", bytes=3)
    assert names(catalog) == ["mine", "theirs"]
    change(theirs, tmp_path / "elsewhere")
    assert names(catalog) == ["mine"]
    for known_as in ("theirs", theirs.name):
        for attempt in (catalog.get, catalog.delete, catalog.pin):
            with pytest.raises(SnapshotNotFound):
                attempt(known_as)
    assert [each.name for each in catalog.prune(limit=0)] == ["mine"]
    assert (theirs / MARKER).exists()


@pytest.mark.parametrize(
    "about",
    [
        7,
        None,
        {},
        {"name": "a", "bytes": "many"},
        {"name": "a", "bytes": float("inf")},
        {"name": "a", "parent": ["b"]},
        {"name": "a", "kernel_seconds": float("nan")},
        {"name": "a", "seconds": {}},
    ],
)
def test_a_marker_that_makes_no_sense_hides_its_snapshot_alone(
    catalog: Catalog, about: Any
) -> None:
    add(catalog, "sane")
    (add(catalog, "odd") / MARKER).write_text(json.dumps({"created": 1, "about": about}))
    assert names(catalog) == ["sane"]
    json.dumps([each.as_json() for each in catalog.list()], allow_nan=False)


def test_what_else_lies_there_hides_nothing(catalog: Catalog) -> None:
    shutil.copytree(add(catalog, "sane"), catalog.store.root / ROOM / "a copy (old)")
    (catalog.store.root / ROOM / "empty").mkdir()
    (catalog.store.root / ROOM / "a-file").touch()
    assert names(catalog) == ["sane"]
    shutil.rmtree(catalog.store.root / ROOM)
    assert names(catalog) == []


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Files of snapshots, as they are opened."""
    found: list[str] = []
    really = open

    def counting(file: Any, *args: Any, **options: Any) -> Any:
        if f"/{ROOM}/" in str(file):
            found.append(str(file))
        return really(file, *args, **options)

    for module in ("builtins", io.__name__):
        monkeypatch.setattr(f"{module}.open", counting)
    return found


def test_nothing_but_markers_is_read_and_those_only_when_they_have_changed(
    catalog: Catalog, opened: list[str]
) -> None:
    paths = [add(catalog, f"run-{number}") for number in range(MANY)]
    opened.clear()
    assert len(catalog.list()) == MANY
    assert sorted(opened) == sorted(str(path / MARKER) for path in paths)
    opened.clear()
    assert len(Catalog().list()) == MANY
    assert opened == []
    catalog.amend(paths[7].name, name="other")
    shutil.rmtree(paths[8])
    new = add(catalog, "new")
    opened.clear()
    found = names(catalog)
    assert sorted(opened) == sorted([str(paths[7] / MARKER), str(new / MARKER)])
    assert len(found) == MANY
    assert (found[7], found[8], found[-1]) == ("other", "run-9", "new")
