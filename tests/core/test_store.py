"""The store one call at a time: what is there afterwards, and what went wrong in words."""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from zerostart_jupyter.core import store as module
from zerostart_jupyter.core.errors import Cancelled, StoreError
from zerostart_jupyter.core.flocks import Flock
from zerostart_jupyter.core.store import MARKER, ROOMS, Store, size

LONG = 60.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "cache")


def put(store: Store, key: str = "a", room: str = "wheels", text: str = "content") -> None:
    with store.publish(room, key, {"text": text}) as staging:
        (staging / "file").write_text(text)


def everything(store: Store) -> list[str]:
    return sorted(
        str(path.relative_to(store.root))
        for room in ROOMS
        for path in (store.root / room).rglob("*")
    )


class TestRoot:
    def test_every_directory_is_private(self, store: Store) -> None:
        for folder in (store.root, *store.root.iterdir()):
            assert stat.S_IMODE(folder.stat().st_mode) == 0o700

    def test_a_file_in_its_place(self, tmp_path: Path) -> None:
        (tmp_path / "cache").write_text("mine")
        with pytest.raises(StoreError, match="cannot be used: File exists"):
            Store(tmp_path / "cache")

    def test_of_another_user(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
        with pytest.raises(StoreError, match="belongs to another user"):
            Store(tmp_path / "cache")

    def test_removed_while_in_use(self, store: Store) -> None:
        shutil.rmtree(store.root)
        assert store.entries("wheels") == []
        assert store.get("wheels", "a") is None
        assert store.sweep() == 0
        assert not store.remove("wheels", "a")
        put(store)
        assert [entry.key for entry in store.entries("wheels")] == ["a"]
        shutil.rmtree(store.root)
        with store.build("environments", "b", {}):
            pass
        assert store.get("environments", "b") is not None
        shutil.rmtree(store.root)
        with store.lock("a"), store.lease("wheels", "a"):
            pass

    @pytest.mark.parametrize(
        ("number", "remedy"),
        [(errno.ENOSPC, "zerostart cache prune"), (errno.EROFS, "Set ZEROSTART_CACHE")],
    )
    def test_a_disk_that_refuses_is_an_error_with_a_remedy(
        self, store: Store, monkeypatch: pytest.MonkeyPatch, number: int, remedy: str
    ) -> None:
        def refuse(*_: object, **__: object) -> int:
            raise OSError(number, os.strerror(number))

        monkeypatch.setattr(Path, "write_text", refuse)
        with pytest.raises(StoreError) as raised, store.publish("wheels", "a", {}):
            pass
        assert os.strerror(number) in raised.value.message
        assert remedy in raised.value.remedy
        assert everything(store) == []


class TestNames:
    @pytest.mark.parametrize("key", ["", ".", "..", "a/b", ".hidden", "a b", "x" * 201, "a\n"])
    def test_keys_that_are_not(self, store: Store, key: str) -> None:
        for use in (store.path, store.get, store.lease, store.remove):
            with pytest.raises(ValueError, match="not a key"):
                use("wheels", key)
        with pytest.raises(ValueError, match="not a lock's name"), store.lock(key):
            pass

    def test_rooms_that_are_not(self, store: Store) -> None:
        with pytest.raises(ValueError, match="no room"):
            store.path("cellar", "a")
        with pytest.raises(ValueError, match="no room"):
            store.entries("cellar")


class TestTryLock:
    def test_one_at_a_time_without_waiting(self, store: Store) -> None:
        first = store.try_lock("fetch-a")
        assert first is not None
        assert store.try_lock("fetch-a") is None
        first.release()
        again = store.try_lock("fetch-a")
        assert again is not None
        again.release()
        again.touch()  # it is nobody's any more

    def test_who_waits_sees_whether_the_work_goes_on(self, store: Store) -> None:
        assert store.idle("fetch-a") == 0
        held = store.try_lock("fetch-a")
        assert held is not None
        os.utime(store.root / "locks" / "fetch-a", (1000, 1000))
        assert store.idle("fetch-a") > 1000
        held.touch()
        assert store.idle("fetch-a") < 1000
        held.release()


class TestPublish:
    def test_is_there_afterwards_and_not_before(self, store: Store) -> None:
        about: dict[str, str] = {}
        before = time.time()
        with store.publish("wheels", "a", about) as staging:
            (staging / "file").write_text("content")
            about["late"] = "yes"
            assert store.get("wheels", "a") is None
        entry = store.get("wheels", "a")
        assert entry is not None
        assert entry.about == {"late": "yes"}
        assert before <= entry.created <= time.time()
        assert (entry.path / "file").read_text() == "content"
        assert everything(store) == ["wheels/a", f"wheels/a/{MARKER}", "wheels/a/file"]

    def test_a_failure_leaves_nothing(self, store: Store) -> None:
        with pytest.raises(RuntimeError), store.publish("wheels", "a", {}):
            raise RuntimeError("broken wheel")
        assert everything(store) == []

    def test_an_error_of_the_work_is_not_ours(self, store: Store) -> None:
        with pytest.raises(PermissionError), store.publish("wheels", "a", {}):
            raise PermissionError("not yours")

    def test_who_was_faster_stays(self, store: Store) -> None:
        with store.publish("wheels", "a", {"text": "slow"}):
            put(store, text="fast")
        entry = store.get("wheels", "a")
        assert entry is not None
        assert entry.about == {"text": "fast"}

    @pytest.mark.parametrize("marker", [None, "", "{", "[]", '{"created": "then", "about": {}}'])
    def test_wreckage_makes_way(self, store: Store, marker: str | None) -> None:
        wreck = store.path("wheels", "a")
        wreck.mkdir()
        (wreck / "old").touch()
        if marker is not None:
            (wreck / MARKER).write_text(marker)
        assert store.get("wheels", "a") is None
        put(store)
        assert sorted(os.listdir(wreck)) == [MARKER, "file"]

    def test_who_builds_there_does_not_make_way(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(module, "PATIENCE", 0.0)
        with store.build("environments", "a", {}) as path:
            (path / "half").touch()
            with pytest.raises(StoreError, match="still building environments/a"):
                put(store, room="environments")
            assert (path / "half").exists()

    def test_who_holds_wreckage_shortly_is_waited_for(self, store: Store) -> None:
        wreck = store.path("wheels", "a")
        wreck.mkdir()
        (wreck / "old").touch()
        lease = store.lease("wheels", "a")
        timer = threading.Timer(0.1, lease.close)
        timer.start()
        put(store)
        timer.join(LONG)
        assert store.get("wheels", "a") is not None


class TestBuild:
    def test_grows_in_place_and_is_marked_last(self, store: Store) -> None:
        about: dict[str, str] = {}
        with store.build("environments", "a", about) as path:
            assert path == store.path("environments", "a")
            about["late"] = "yes"
            assert store.get("environments", "a") is None
        entry = store.get("environments", "a")
        assert entry is not None
        assert entry.about == {"late": "yes"}

    def test_a_failure_stays_unmarked_for_the_next(self, store: Store) -> None:
        with pytest.raises(RuntimeError), store.build("environments", "a", {}) as path:  # noqa: PT012
            (path / "half").touch()
            raise RuntimeError("no network")
        assert store.get("environments", "a") is None
        with store.build("environments", "a", {}) as path:
            assert (path / "half").exists()
        assert store.get("environments", "a") is not None

    def test_one_that_is_rebuilt_is_not_whole_meanwhile(self, store: Store) -> None:
        with store.build("environments", "a", {}):
            pass
        with store.build("environments", "a", {}):
            assert store.get("environments", "a") is None
        assert store.get("environments", "a") is not None


class TestStaging:
    def test_may_be_discarded_or_adopted(self, store: Store) -> None:
        store.discard(store.stage("wheels"))
        staging = store.stage("wheels")
        assert store.adopt(staging, store.path("wheels", "a"))
        store.discard(staging)
        assert everything(store) == ["wheels/a"]

    def test_whose_place_vanished(self, store: Store) -> None:
        staging = store.stage("wheels")
        shutil.rmtree(store.root)
        with pytest.raises(StoreError, match="No such file"):
            store.adopt(staging, store.path("wheels", "a"))

    def test_a_sweep_between_making_and_locking_it(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Three times unlucky: gone before the lock, locked by the sweep, gone under the lock."""
        lock = Flock.on_directory
        sweeps: Iterator[str] = iter(["gone", "locked", "deleted"])

        def unlucky(path: Path) -> Flock | None:
            match next(sweeps, None):
                case "gone":
                    path.rmdir()
                    return lock(path)
                case "locked":
                    path.rmdir()
                    return None
                case "deleted":
                    held = lock(path)
                    path.rmdir()
                    return held
            return lock(path)

        monkeypatch.setattr(Flock, "on_directory", unlucky)
        staging = store.stage("wheels")
        assert everything(store) == [f"wheels/{staging.name}"]
        assert store.sweep() == 0


class TestLock:
    def test_one_at_a_time(self, store: Store) -> None:
        with store.lock("a"):
            with pytest.raises(StoreError, match="held a for 0 s"), store.lock("a", timeout=0):
                pass
            with store.lock("b", timeout=0):
                pass
        with store.lock("a", timeout=0):
            pass

    def test_a_wait_can_be_given_up(self, store: Store) -> None:
        def check() -> None:
            raise Cancelled("Stopped.", remedy="")

        with store.lock("a"), pytest.raises(Cancelled), store.lock("a", check=check):
            pass

    def test_a_wait_ends_when_the_holder_does(self, store: Store) -> None:
        waiting, order = threading.Event(), []

        def wait() -> None:
            with store.lock("a", check=waiting.set):
                order.append("second")

        with store.lock("a"):
            thread = threading.Thread(target=wait)
            thread.start()
            assert waiting.wait(LONG)
            order.append("first")
        thread.join(LONG)
        assert order == ["first", "second"]

    def test_is_freed_by_a_failure(self, store: Store) -> None:
        with pytest.raises(RuntimeError), store.lock("a"):
            raise RuntimeError
        with store.lock("a", timeout=0):
            pass

    def test_never_meets_a_lease(self, store: Store) -> None:
        with store.lock("wheels-a"), store.lease("wheels", "a"):
            pass


class TestLease:
    def test_its_file_goes_with_what_was_leased(self, store: Store) -> None:
        put(store)
        store.lease("wheels", "a").close()
        assert store.remove("wheels", "a")
        assert list((store.root / "locks").iterdir()) == []

    def test_the_file_of_one_on_nothing_goes_once_nobody_holds_it(self, store: Store) -> None:
        put(store)
        lease = store.lease("wheels", "b")
        store.lease("wheels", "a").close()
        assert store.retire_leases("wheels") == 0
        lease.close()
        assert store.retire_leases("wheels") == 1
        assert [path.name for path in (store.root / "locks").iterdir()] == [".wheels-a"]

    def test_keeps_an_entry(self, store: Store) -> None:
        put(store)
        first, second = store.lease("wheels", "a"), store.lease("wheels", "a")
        first.close()
        first.close()
        assert not store.remove("wheels", "a")
        second.close()
        assert store.remove("wheels", "a")
        assert not store.remove("wheels", "a")
        assert everything(store) == []

    def test_waits_for_a_removal_under_way(self, store: Store) -> None:
        put(store)
        held = Flock.on_file(store.root / "locks" / ".wheels-a")
        assert held is not None
        timer = threading.Timer(0.1, held.release)
        timer.start()
        store.lease("wheels", "a").close()
        timer.join(LONG)


class TestSweep:
    def test_leaves_the_living_alone(self, store: Store) -> None:
        put(store)
        store.stage("wheels")
        with store.build("environments", "b", {}), store.publish("wheels", "c", {}):
            before = everything(store)
            assert Store(store.root).sweep() == 0
            assert everything(store) == before

    def test_collects_what_nobody_holds(self, store: Store) -> None:
        put(store)
        (store.root / "wheels" / ".staging-0123").mkdir()
        (store.root / "environments" / "half").mkdir()
        (store.root / "environments" / "half" / "file").touch()
        assert store.sweep() == 2
        assert everything(store) == ["wheels/a", f"wheels/a/{MARKER}", "wheels/a/file"]

    def test_leaves_strangers_alone(self, store: Store) -> None:
        (store.root / "wheels" / ".DS_Store").touch()
        (store.root / "wheels" / ".staging-file").touch()
        assert store.sweep() == 0

    def test_keeps_half_a_download_for_a_week(self, store: Store) -> None:
        half = store.root / "partial" / "0123"
        half.mkdir()
        assert store.sweep() == 0
        old = time.time() - module.KEEP_PARTIAL - 60
        os.utime(half, (old, old))
        assert store.sweep() == 1

    def test_an_entry_finished_meanwhile_stays(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The builder ends between the sweep's look and its lock."""
        (store.root / "environments" / "a").mkdir()
        attempt = Flock.on_file

        def finish_first(path: Path) -> Flock | None:
            monkeypatch.undo()
            with store.build("environments", "a", {}):
                pass
            return attempt(path)

        monkeypatch.setattr(Flock, "on_file", finish_first)
        assert store.sweep() == 0
        assert store.get("environments", "a") is not None

    def test_one_that_vanishes_meanwhile(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        half = store.root / "partial" / "0123"
        half.mkdir()
        get = store.get

        def vanish(room: str, key: str) -> None:
            assert get(room, key) is None
            half.rmdir()

        monkeypatch.setattr(store, "get", vanish)
        assert store.sweep() == 0


def test_entries_are_sorted_by_age(store: Store) -> None:
    for key, created in (("b", 2), ("a", 3), ("c", 1)):
        put(store, key)
        marker = store.path("wheels", key) / MARKER
        marker.write_text(json.dumps({"created": created, "about": {}}))
    assert [entry.key for entry in store.entries("wheels")] == ["c", "b", "a"]


def test_size_counts_a_file_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "a" / "b"
    folder.mkdir(parents=True)
    (folder / "one").write_bytes(b"x" * 10000)
    alone = size(tmp_path)
    assert alone == (folder / "one").stat().st_blocks * 512 > 0
    os.link(folder / "one", tmp_path / "two")
    assert size(tmp_path) == alone
    monkeypatch.setattr(os, "walk", lambda path: [(path, [], ["removed meanwhile"])])
    assert size(tmp_path) == 0
