"""Status files: what a reader finds while the writer works, fails, is asked to stop or is gone."""

from __future__ import annotations

import json
import os
import shutil
import stat
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.core.hubs import StillHub
from zerostart_jupyter.core import status
from zerostart_jupyter.core.errors import Cancelled
from zerostart_jupyter.core.events import Event, Hub, State, operation
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.status import StatusFile, request_cancel

LONG = 60.0


@pytest.fixture
def hub() -> Hub:
    return StillHub()


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "runtime" / "kernel-1"


def read(file: StatusFile) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.path.read_text())
    return found


def states(file: StatusFile) -> list[str]:
    return [each["state"] for each in read(file)["operations"]]


def test_says_who_writes_from_the_start(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {"kernel": "kernel-1"}, hub)
    assert read(file) == {
        "schema": status.SCHEMA,
        "process": Process.current().as_json(),
        "kernel": "kernel-1",
        "operations": [],
    }
    file.close()


def test_notes_more_about_the_writer_until_it_is_closed(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {"kernel": "kernel-1"}, hub)
    file.note("undo", {"on": True})
    assert read(file)["undo"] == {"on": True}
    assert read(file)["kernel"] == "kernel-1"
    file.close()
    file.note("undo", {"on": False})
    assert not file.path.exists()


def test_is_private_and_leaves_no_staging(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {}, hub)
    assert stat.S_IMODE(directory.stat().st_mode) == 0o700
    assert stat.S_IMODE(file.path.stat().st_mode) == 0o600
    assert os.listdir(directory) == ["kernel.json"]
    file.close()


def test_follows_the_work_and_knows_what_went_before(directory: Path, hub: Hub) -> None:
    with operation("load", "before", hub=hub):
        file = StatusFile(directory, "kernel", {}, hub)
        assert states(file) == ["waiting"]
        with operation("load", "a", hub=hub) as work:
            work.update("shard", 1, 2)
            hub.flush()
            assert states(file) == ["waiting", "running"]
            assert read(file)["operations"][1]["items"][0]["name"] == "shard"
    assert states(file) == ["done", "done"]
    file.close()


def test_forgets_what_the_hub_forgets(
    directory: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zerostart_jupyter.core.events.KEEP_FINISHED", 2)
    file = StatusFile(directory, "kernel", {}, hub)
    for _ in range(5):
        with operation("load", "a", hub=hub):
            pass
    assert len(states(file)) == 2
    file.close()


def test_close_removes_the_file_its_requests_and_the_directory(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {}, hub)
    with operation("load", "a", hub=hub) as work:
        pass
    request_cancel(directory, work.id)  # too late
    file.close()
    file.close()
    assert not directory.exists()


def test_close_leaves_the_files_of_other_writers(directory: Path, hub: Hub) -> None:
    kernel, dumper = (StatusFile(directory, name, {}, hub) for name in ("kernel", "dumper"))
    kernel.close()
    assert os.listdir(directory) == ["dumper.json"]
    dumper.close()


def test_nothing_is_written_after_close(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {}, hub)
    file.close()
    file._take([Event("load-1", "load", "a", "", State.RUNNING, 0, None, "bytes", 0)])
    assert not directory.exists()


def test_an_abandoned_file_stays_as_it_was(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {}, hub)
    file.abandon()
    with operation("load", "a", hub=hub):
        pass
    assert states(file) == []
    file.close()
    assert file.path.exists()


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_does_not_remove_its_parents_file(directory: Path, hub: Hub) -> None:
    file = StatusFile(directory, "kernel", {}, hub)
    with file._lock:  # as another thread of the parent might
        pid = os.fork()
        if pid == 0:
            try:
                file.close()
            finally:
                os._exit(0)
    os.waitpid(pid, 0)
    assert file.path.exists()
    file.close()


class TestCannotWrite:
    """A status file that cannot be written never breaks the work, and comes back when it can."""

    def full(self, *_: object, **__: object) -> int:
        raise OSError(28, "No space left on device")

    def test_from_the_start(
        self, directory: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with monkeypatch.context() as patch:
            patch.setattr(Path, "write_text", self.full)
            file = StatusFile(directory, "kernel", {}, hub)
            with operation("load", "a", hub=hub):
                pass
            assert os.listdir(directory) == []
        with operation("load", "b", hub=hub):
            pass
        assert states(file) == ["done", "done"]
        file.close()

    def test_the_directory_vanished(self, directory: Path, hub: Hub) -> None:
        file = StatusFile(directory, "kernel", {}, hub)
        shutil.rmtree(directory.parent)
        with operation("load", "a", hub=hub):
            pass
        assert states(file) == ["done"]
        shutil.rmtree(directory.parent)
        file.close()

    def test_a_file_stands_in_the_place_of_the_directory(self, directory: Path, hub: Hub) -> None:
        directory.parent.mkdir(parents=True)
        directory.write_text("not a directory")
        file = StatusFile(directory, "kernel", {}, hub)
        with operation("load", "a", hub=hub):
            pass
        file.close()
        assert directory.read_text() == "not a directory"


class TestCancel:
    @pytest.fixture(autouse=True)
    def quick(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(status, "POLL", 0.001)

    def wait_cancelled(self, hub: Hub, ask: Callable[[str], None]) -> str:
        stopped = threading.Event()
        with operation("load", "a", hub=hub) as work:
            work.on_cancel(stopped.set)
            ask(work.id)
            assert stopped.wait(LONG)
            with pytest.raises(Cancelled):
                work.check()
        return work.id

    def test_a_request_reaches_the_work(self, directory: Path, hub: Hub) -> None:
        file = StatusFile(directory, "kernel", {}, hub)
        for _ in range(2):  # the watch ends with the work and begins again with the next
            done = self.wait_cancelled(hub, lambda key: request_cancel(directory, key))
            assert not (directory / f"cancel-{done}").exists()
            watch = file._watch
            if watch is not None:
                watch.join(LONG)
            assert file._watch is None
        file.close()

    def test_only_the_one_that_was_meant(self, directory: Path, hub: Hub) -> None:
        file = StatusFile(directory, "kernel", {}, hub)
        with operation("load", "other", hub=hub) as other:
            self.wait_cancelled(hub, lambda key: request_cancel(directory, key))
            assert not other.cancelled
        file.close()

    def test_the_watch_ends_when_the_file_is_closed(self, directory: Path, hub: Hub) -> None:
        file = StatusFile(directory, "kernel", {}, hub)
        with operation("load", "a", hub=hub):
            watch = file._watch
            assert watch is not None
            file.close()
            watch.join(LONG)
            assert not watch.is_alive()

    @pytest.mark.parametrize("name", ["", "../../etc/passwd", "a/b", "a b", "-"])
    def test_only_ids_are_taken(self, directory: Path, name: str) -> None:
        with pytest.raises(ValueError, match="not an operation's id"):
            request_cancel(directory, name)
