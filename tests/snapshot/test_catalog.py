from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotExists, SnapshotNotFound, SnapshotRefused
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id


@pytest.fixture
def catalog(private: Path) -> Catalog:
    return Catalog(Settings.read())


def add(catalog: Catalog, name: str, **about: Any) -> str:
    key = fresh_id()
    with (
        catalog.reserve(name, replace=True),
        catalog.publish(key, {"name": name, "bytes": 3, **about}) as directory,
    ):
        (directory / "images" / "pages-1.img").write_bytes(b"abc")
    return key


def test_what_is_listed(catalog: Catalog) -> None:
    first = add(catalog, "one", notebook="a.ipynb", kernel_seconds=2.5)
    second = add(catalog, "two", parent=first)
    one, two = catalog.list()
    assert (one.name, one.id, one.notebook, one.bytes, one.parent) == (
        *("one", first, "a.ipynb", 3),
        None,
    )
    assert (two.parent, two.id) == ("one", second)
    assert {"name", "tier", "created", "notebook", "bytes", "gpu_bytes", "parent"} <= set(
        one.as_json()
    )
    assert (one.images / "pages-1.img").read_bytes() == b"abc"


def test_it_is_found_by_name_and_by_id(catalog: Catalog) -> None:
    key = add(catalog, "one")
    assert catalog.get("one") == catalog.get(key)
    with pytest.raises(SnapshotNotFound, match="There are: one"):
        catalog.get("two")


def test_names_are_unique_whatever_their_case(catalog: Catalog) -> None:
    add(catalog, "One")
    with pytest.raises(SnapshotExists):
        catalog.check("one")
    with catalog.reserve("two"), pytest.raises(SnapshotExists), catalog.reserve("TWO"):
        pass


def test_a_replaced_snapshot_is_gone(catalog: Catalog) -> None:
    add(catalog, "one")
    key = add(catalog, "one")
    assert [each.id for each in catalog.list()] == [key]


@pytest.mark.parametrize("name", ["", ".", "..", "../x", "a/b", "a b", "-x", "x" * 65, "ü", "a\n"])
def test_names_that_make_no_good_paths_are_refused(catalog: Catalog, name: str) -> None:
    with pytest.raises(SnapshotRefused):
        catalog.check(name)


def test_a_save_that_fails_leaves_nothing(catalog: Catalog) -> None:
    with (
        pytest.raises(ZeroDivisionError),
        catalog.reserve("one"),
        catalog.publish(fresh_id(), {"name": "one"}),
    ):
        raise ZeroDivisionError
    assert catalog.list() == []
    assert list((catalog.store.root / "snapshots").iterdir()) == []
    catalog.check("one")


def test_another_name_keeps_everything_else(catalog: Catalog) -> None:
    add(catalog, "one", notebook="a.ipynb")
    before = catalog.get("one")
    after = catalog.rename("one", "two")
    assert (after.name, after.id, after.created, after.notebook) == (
        *("two", before.id, before.created),
        "a.ipynb",
    )
    add(catalog, "three")
    with pytest.raises(SnapshotExists):
        catalog.rename("three", "two")


def test_a_published_kernelspec_follows_its_snapshot(catalog: Catalog, private: Path) -> None:
    kernels = private / "jupyter_data_dir" / "kernels"
    add(catalog, "One")
    folder = snapshot.publish("One")
    assert folder == kernels / "zerostart-one"
    catalog.rename("One", "two")
    assert [each.name for each in kernels.iterdir()] == ["zerostart-two"]
    catalog.delete("two")
    assert list(kernels.iterdir()) == []


def test_a_kernelspec_of_somebody_else_stays(catalog: Catalog, private: Path) -> None:
    add(catalog, "one")
    folder = private / "jupyter_data_dir" / "kernels" / "zerostart-one"
    folder.mkdir(parents=True)
    (folder / "kernel.json").write_text('{"argv": ["mine"]}')
    catalog.delete("one")
    assert (folder / "kernel.json").exists()


def test_one_that_is_being_restored_is_not_deleted(catalog: Catalog) -> None:
    key = add(catalog, "one")
    with catalog.store.lease("snapshots", key), pytest.raises(SnapshotRefused):
        catalog.delete("one")
    assert catalog.delete("one").id == key
    assert catalog.list() == []
