"""Exports taken apart and put together again, in good faith and in bad."""

from __future__ import annotations

import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import (
    Cancelled,
    SnapshotCorrupt,
    SnapshotExists,
    SnapshotNotFound,
    SnapshotRefused,
    ZerostartError,
)
from zerostart_jupyter.core.events import Event, Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id
from zerostart_jupyter.snapshot.exchange import blocks, index, packed
from zerostart_jupyter.snapshot.exchange.index import Index
from zerostart_jupyter.snapshot.portable.description import FOLDER, Description
from zerostart_jupyter.snapshot.portable.verified import Digest

DATA = bytes(range(256)) * (3 << 12) + b"the end"  # three blocks and a bit


def add(catalog: Catalog, name: str, data: bytes = DATA) -> str:
    """A portable snapshot of one file, as far as anybody looks before a restore."""
    key = fresh_id()
    about: dict[str, Any] = {"name": name, "tier": "portable", "bytes": len(data)}
    with catalog.reserve(name, replace=True), catalog.publish(key, about) as directory:
        (directory / FOLDER).mkdir()
        (directory / FOLDER / "names.pickle").write_bytes(data)
        digests = {"names.pickle": Digest(len(data), hashlib.sha256(data).hexdigest())}
        Description(id=key, names=(), digests=digests).write(directory)
        described = (directory / "portable.json").read_bytes()
        about["digest"] = hashlib.sha256(described).hexdigest()
    return key


def content(key: str) -> bytes:
    return (snapshot.show(key).path / FOLDER / "names.pickle").read_bytes()


@pytest.fixture
def catalog(private: Path) -> Catalog:
    return Catalog(Settings.read())


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_it_comes_back_as_it_was(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    key = add(catalog, "one")
    place = tmp_path / "one.zsnap"
    if kind == "folder":
        (tmp_path / "shared").mkdir()
        place = tmp_path / "shared"
    done = snapshot.export("one", place)
    assert done.bytes > len(DATA) > done.sent > 0
    assert done.path.stat().st_mode & 0o077 == 0
    other = snapshot.import_(done.path, "two")
    assert (other.name, other.tier, other.trusted) == ("two", "portable", False)
    assert other.id != key
    assert content(other.id) == DATA
    assert other.path.stat().st_mode & 0o077 == 0
    snapshot.delete("one")
    assert snapshot.import_(done.path, trust=True).id == key
    assert snapshot.show("one").trusted


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_a_second_export_sends_what_changed(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    add(catalog, "one", DATA)
    place = tmp_path / "exports"
    if kind == "folder":
        place.mkdir()
    first = snapshot.export("one", place)
    assert snapshot.export("one", place).sent == 0
    add(catalog, "one", DATA + b"more")
    again = snapshot.export("one", place)
    assert 0 < again.sent < first.sent
    snapshot.delete("one")
    assert content(snapshot.import_(again.path).id) == DATA + b"more"


def test_a_file_that_is_mostly_of_no_use_is_written_anew(catalog: Catalog, tmp_path: Path) -> None:
    import random

    noise = random.Random(0).randbytes(5 << 20)
    add(catalog, "one", noise)
    first = snapshot.export("one", tmp_path / "one.zsnap")
    assert first.path.stat().st_size > 5 << 20
    add(catalog, "one", b"little")
    snapshot.export("one", tmp_path / "one.zsnap")
    assert first.path.stat().st_size < 1 << 20
    assert content(snapshot.import_(first.path, "two").id) == b"little"


def test_names_that_are_taken_and_files_that_are_not_there(
    catalog: Catalog, tmp_path: Path
) -> None:
    add(catalog, "one")
    done = snapshot.export("one", tmp_path / "one.zsnap")
    with pytest.raises(SnapshotExists):
        snapshot.import_(done.path)
    with pytest.raises(SnapshotNotFound):
        snapshot.import_(tmp_path / "none.zsnap")
    with pytest.raises(SnapshotNotFound):
        snapshot.export("none", tmp_path / "none.zsnap")
    assert not (tmp_path / "none.zsnap").exists()


@pytest.mark.parametrize("kind", ["export", "import"])
def test_cancelled_half_way_nothing_is_left(catalog: Catalog, tmp_path: Path, kind: str) -> None:
    add(catalog, "one")
    path = tmp_path / "one.zsnap"
    hub = Hub(interval=0)

    def stop(events: Any) -> None:
        each: Event = events[-1]
        hub.cancel(each.operation)

    if kind == "import":
        snapshot.export("one", path)
        hub.subscribe(stop)
        with pytest.raises(Cancelled):
            snapshot.import_(path, "two", hub=hub)
        assert [each.name for each in catalog.list()] == ["one"]
        return
    hub.subscribe(stop)
    with pytest.raises(Cancelled):
        snapshot.export("one", path, hub=hub)
    assert not path.exists()


def test_a_failed_export_leaves_the_file_as_it_was(catalog: Catalog, tmp_path: Path) -> None:
    add(catalog, "one")
    path = snapshot.export("one", tmp_path / "one.zsnap").path
    before = path.read_bytes()
    add(catalog, "two", b"other" * 1000)
    (snapshot.show("two").path / FOLDER / "names.pickle").unlink()
    with pytest.raises(ZerostartError):
        snapshot.export("two", path)
    assert path.read_bytes() == before


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    st.lists(st.tuples(st.floats(0, 1, exclude_max=True), st.integers(0, 255)), max_size=3),
    st.floats(0, 1) | st.just(1.0),
)
def test_a_corrupted_export_is_refused_or_means_the_same(
    catalog: Catalog, tmp_path: Path, hits: list[tuple[float, int]], cut: float
) -> None:
    path = tmp_path / "one.zsnap"
    if not path.exists():
        add(catalog, "one")
        snapshot.export("one", path)
    whole = bytearray(path.read_bytes())
    for at, value in hits:
        whole[int(at * len(whole))] = value
    changed = tmp_path / "changed.zsnap"
    changed.write_bytes(whole[: round(cut * len(whole))])
    try:
        found = snapshot.import_(changed, "two")
    except SnapshotCorrupt:
        assert [each.name for each in catalog.list()] == ["one"]
    else:
        assert content(found.id) == DATA
        snapshot.delete("two")


def hostile(path: Path, change: Any) -> None:
    """Have an export say something else, with digests that fit."""
    with packed.Packed.open(path) as (_, known):
        body = json.loads(blocks.unpack(known.packed(), index.LARGEST))
    change(body)
    table = blocks.pack(json.dumps(body).encode())
    with path.open("r+b") as stream:
        stream.seek(0, 2)
        at = stream.tell()
        stream.write(table)
        stream.seek(0)
        sha = hashlib.sha256(table).digest()
        stream.write(packed._HEADER.pack(packed.MAGIC, at, len(table), sha))


@pytest.mark.parametrize(
    "where",
    ["../escape", "/etc/passwd", "portable/../../x", "entry.json/x", "images/../../x", ".hidden"],
)
def test_paths_that_lead_elsewhere(catalog: Catalog, tmp_path: Path, where: str) -> None:
    add(catalog, "one")
    path = snapshot.export("one", tmp_path / "one.zsnap").path

    def change(body: dict[str, Any]) -> None:
        body["contents"][0][0] = where

    hostile(path, change)
    with pytest.raises(SnapshotCorrupt):
        snapshot.import_(path, "two")
    assert [each.name for each in catalog.list()] == ["one"]
    assert {each.name for each in tmp_path.iterdir()} <= {
        *("one.zsnap", "cache", "ipythondir", "jupyter_config_dir"),
        *("jupyter_data_dir", "jupyter_runtime_dir"),
    }


@pytest.mark.parametrize(
    "change",
    [
        lambda body: body.update(id="../../x"),
        lambda body: body.update(id=7),
        lambda body: body.update(tier="magic"),
        lambda body: body.update(format=99),
        lambda body: body.update(contents=[["a", -1, []]]),
        lambda body: body.update(contents=None),
        lambda body: body["about"].update(seconds="nan"),
        lambda body: body["contents"].append(body["contents"][0]),
        lambda body: body.update(places={}),
        lambda body: body.update(places={key: [0, 1 << 50] for key in body["places"]}),
        lambda body: body["contents"][0].__setitem__(1, body["contents"][0][1] - 1),
    ],
)
def test_tables_of_contents_that_lie(catalog: Catalog, tmp_path: Path, change: Any) -> None:
    add(catalog, "one")
    path = snapshot.export("one", tmp_path / "one.zsnap").path
    hostile(path, change)
    with pytest.raises(SnapshotCorrupt):
        snapshot.import_(path, "two")
    assert [each.name for each in catalog.list()] == ["one"]


def test_a_name_that_is_no_name(catalog: Catalog, tmp_path: Path) -> None:
    add(catalog, "one")
    path = snapshot.export("one", tmp_path / "one.zsnap").path
    hostile(path, lambda body: body.update(name="../x"))
    with pytest.raises(SnapshotRefused):
        snapshot.import_(path)


def test_more_than_the_disk_holds_is_refused_before_it_is_written(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(catalog, "one")
    path = snapshot.export("one", tmp_path / "one.zsnap").path
    free = shutil.disk_usage(tmp_path)._replace(free=1 << 20)
    monkeypatch.setattr(shutil, "disk_usage", lambda path: free)
    with pytest.raises(SnapshotRefused, match=r"1\.0 MiB are free"):
        snapshot.import_(path, "two")


def test_a_block_that_unpacks_to_more_than_it_says() -> None:
    bomb = blocks.pack(bytes(64 << 20))
    assert len(bomb) < 64 << 10
    with pytest.raises(SnapshotCorrupt, match="as large as it says"):
        blocks.unpack(bomb, blocks.SIZE)
    with pytest.raises(SnapshotCorrupt):
        blocks.unpack(b"no zstd at all", blocks.SIZE)


@given(st.binary(max_size=400))
def test_any_bytes_are_refused_as_a_table_of_contents(data: bytes) -> None:
    with pytest.raises(SnapshotCorrupt):
        Index.read(data)
    with pytest.raises(SnapshotCorrupt):
        Index.read(blocks.pack(data))
