"""Status files as untrusted input, and the end of those whose writers ended."""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.jupyter.server import sources
from zerostart_jupyter.jupyter.server.sources import Source, bury, find, sweep
from zerostart_jupyter.jupyter.server.wire import operations


def written(root: Path, body: Any, folder: str = "kernel-a", name: str = "kernel.json") -> Path:
    """A status file that says `body`."""
    path = root / folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(body if isinstance(body, str) else json.dumps(body))
    return path


def only(root: Path) -> Source:
    """The one source there is."""
    [found] = [source for each in find(root) if (source := each.read()) is not None]
    return found


@pytest.fixture
def ended() -> Process:
    """A process that is no more."""
    code = (
        "import json; from zerostart_jupyter.core.liveness import Process;"
        "print(json.dumps(Process.current().as_json()))"
    )
    text = subprocess.run(
        [sys.executable, "-c", code], check=True, capture_output=True, cwd=Path.cwd()
    ).stdout
    return Process.from_json(json.loads(text))


def test_what_a_kernel_writes_is_read(tmp_path: Path) -> None:
    hub = Hub()
    status = StatusFile(tmp_path / "kernel-8c1f", "kernel", {}, hub)
    with operation("load", "model", hub=hub) as work:
        work.update("shard", 1, 2)
        hub.flush()
        found = only(tmp_path)
    status.close()
    assert (found.kernel, found.writer, found.process) == ("8c1f", "kernel", Process.current())
    assert found.operations[0]["items"][0]["name"] == "shard"


def test_no_directory_is_no_kernels(tmp_path: Path) -> None:
    assert list(find(tmp_path / "absent")) == []
    assert sweep(tmp_path / "absent") == 0


@pytest.mark.parametrize(
    ("folder", "name"),
    [
        ("other", "kernel.json"),
        ("kernel-a b", "kernel.json"),
        ("kernel-a", "cancel-load-1"),
        ("kernel-a", ".kernel.json.part"),
        ("kernel-a", "Kernel.json"),
        ("kernel-a", "kernel.json/inside"),
    ],
)
def test_other_files_are_passed_over(tmp_path: Path, folder: str, name: str) -> None:
    written(tmp_path, {"operations": []}, folder, name)
    assert list(find(tmp_path)) == []


def test_links_are_not_followed(tmp_path: Path) -> None:
    elsewhere = written(tmp_path / "elsewhere", {"operations": []})
    root = tmp_path / "root"
    (root / "kernel-a").mkdir(parents=True)
    (root / "kernel-a" / "kernel.json").symlink_to(elsewhere)
    (root / "kernel-b").symlink_to(elsewhere.parent)
    assert list(find(root)) == []


SOMEBODY = 54321  # a user id that nobody has
SHARED = ["", "kernel-a", "kernel-a/kernel.json"]

as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file away")


@as_root
@pytest.mark.parametrize("foreign", SHARED)
def test_what_is_another_users_is_neither_shown_nor_touched(tmp_path: Path, foreign: str) -> None:
    root = tmp_path / "zerostart"
    path = written(root, {"operations": [view()]})
    source = only(root)
    assert source.operations
    os.chown(root / foreign, SOMEBODY, SOMEBODY)
    os.utime(path.parent, (1, 1))
    assert [each.read() for each in find(root)] == []
    path.rename(path.with_name("kernel"))  # now it looks abandoned
    os.utime(path.parent, (1, 1))
    assert sweep(root) == (foreign.endswith("json"))


@pytest.mark.parametrize("linked", SHARED)
def test_nothing_behind_a_link_is_shown_or_touched(tmp_path: Path, linked: str) -> None:
    root, elsewhere = tmp_path / "zerostart", tmp_path / "elsewhere"
    path = written(root, {"operations": [view()]})
    assert only(root).operations
    (root / linked).rename(elsewhere)
    (root / linked).symlink_to(elsewhere)
    assert list(find(root)) == []
    os.utime(path.parent, (1, 1))
    assert sweep(root) == 0


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda path: os.chown(path, SOMEBODY, SOMEBODY), marks=as_root),
        lambda path: (path.unlink(), os.mkfifo(path)),
        lambda path: (path.rename(path.with_name("x")), path.symlink_to(path.with_name("x"))),
    ],
    ids=["another user's", "a pipe", "a link"],
)
def test_a_file_that_changes_hands_between_look_and_read_is_not_read(
    tmp_path: Path, change: Callable[[Path], object]
) -> None:
    path = written(tmp_path, {"operations": [view()]})
    [found] = find(tmp_path)
    change(path)
    assert found.read() is None


def item(**changed: Any) -> dict[str, Any]:
    plain = {"name": "a", "state": "done", "done": 1, "total": 2, "unit": "bytes", "error": None}
    return {**plain, **changed}


def view(**changed: Any) -> dict[str, Any]:
    whole = {"id": "load-1", "kind": "load", "title": "m", "started": 1, "updated": 2}
    progress = {name: value for name, value in item().items() if name != "name"}
    return {**whole, **progress, "items": [item()], **changed}


WRONG = [
    "",
    "[]",
    "nothing",
    "\ud800",
    "[" * 100_000,
    {},
    {"operations": None},
    {"operations": {}},
    {"operations": [1]},
    {"operations": [view(), view()]},
    {"operations": [], "process": {"pid": "x", "born": "", "namespace": ""}},
    {"operations": [], "process": 7},
    *({"operations": [view(**{name: []})]} for name in view() if name != "items"),
    *({"operations": [view(items=[item(**{name: {}})])]} for name in item()),
    {"operations": [view(items={})]},
    {"operations": [view(items=[item(), item()])]},
    {"operations": [view(items=[item(name="")])]},
    {"operations": [view(state="lost")]},
    {"operations": [view(done=True)]},
    {"operations": [view(done=math.nan)]},
    {"operations": [view(total=math.inf)]},
    {"operations": [view(done=10**400)]},
]


UNDO = {"on": True, "bytes": 9, "cells": [[1, 2]], "gaps": [[3, 4, "why"]], "undone": []}


@pytest.mark.parametrize(
    "undo", [1, [], {}, {"on": 1}, {**UNDO, "cells": [[1]]}, {**UNDO, "gaps": [[1, 2]]}]
)
def test_undo_points_that_make_no_sense_leave_nothing_of_the_file(
    tmp_path: Path, undo: Any
) -> None:
    written(tmp_path, {"operations": [], "undo": UNDO})
    assert only(tmp_path).undo == UNDO
    path = written(tmp_path, {"operations": [], "undo": undo})
    [found] = find(tmp_path)
    assert path.exists()
    assert found.read() is None


@pytest.mark.parametrize("body", WRONG, ids=lambda body: ascii(body)[:60])
def test_what_makes_no_sense_is_absent(tmp_path: Path, body: Any) -> None:
    path = tmp_path / "kernel-a" / "kernel.json"
    path.parent.mkdir()
    text = body if isinstance(body, str) else json.dumps(body)
    path.write_bytes(text.encode(errors="surrogatepass"))
    [found] = find(tmp_path)
    assert found.read() is None


def test_a_file_that_is_too_large_is_absent(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, {"operations": []})
    monkeypatch.setattr(sources, "MAXIMUM", path.stat().st_size - 1)
    [found] = find(tmp_path)
    assert found.read() is None


def test_a_file_that_vanishes_is_absent(tmp_path: Path) -> None:
    path = written(tmp_path, {"operations": []})
    [found] = find(tmp_path)
    path.unlink()
    assert found.read() is None


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.sampled_from([*view(), "x"]), inner),
    max_leaves=20,
)


@given(JSON)
def test_any_json_is_either_operations_or_an_error(body: Any) -> None:
    try:
        found = operations(body)
    except (LookupError, TypeError, ValueError, ArithmeticError):
        return
    assert operations(found) == found
    json.dumps(found, allow_nan=False)


def test_the_file_of_a_process_that_ended_is_removed(tmp_path: Path, ended: Process) -> None:
    path = written(tmp_path, {"operations": [], "process": ended.as_json()})
    assert bury(only(tmp_path))
    assert not path.parent.exists()


def test_other_writers_of_a_kernel_are_left_alone(tmp_path: Path, ended: Process) -> None:
    written(tmp_path, {"operations": [], "process": ended.as_json()}, name="dumper.json")
    living = written(tmp_path, {"operations": [], "process": Process.current().as_json()})
    [dumper, kernel] = [each.read() for each in sorted(find(tmp_path), key=lambda f: f.writer)]
    assert dumper is not None
    assert kernel is not None
    assert bury(dumper)
    assert not bury(kernel)
    assert os.listdir(living.parent) == ["kernel.json"]


def test_a_file_without_a_process_is_left_alone(tmp_path: Path) -> None:
    path = written(tmp_path, {"operations": []})
    assert not bury(only(tmp_path))
    assert path.exists()


def test_a_new_kernel_that_took_the_place_is_left_alone(tmp_path: Path, ended: Process) -> None:
    path = written(tmp_path, {"operations": [], "process": ended.as_json()})
    old = only(tmp_path)
    written(tmp_path, {"operations": [], "process": Process.current().as_json()})
    assert not bury(old)
    assert only(tmp_path).process == Process.current()
    assert os.listdir(path.parent) == ["kernel.json"]


def test_a_file_that_somebody_else_removed(tmp_path: Path, ended: Process) -> None:
    path = written(tmp_path, {"operations": [], "process": ended.as_json()})
    old = only(tmp_path)
    path.unlink()
    assert not bury(old)


def test_directories_without_writers_are_swept_once_they_are_old(tmp_path: Path) -> None:
    used = written(tmp_path, {"operations": []}).parent
    fresh = tmp_path / "kernel-fresh"
    old = tmp_path / "kernel-old"
    for folder in (fresh, old):
        folder.mkdir()
        (folder / "cancel-load-1").touch()
    for folder in (used, old):
        os.utime(folder, (1, 1))
    assert sweep(tmp_path) == 1
    assert sorted(tmp_path.iterdir()) == [used, fresh]
