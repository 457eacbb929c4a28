"""Locks across processes and forks."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from zerostart_jupyter.core import flocks
from zerostart_jupyter.core.flocks import Flock

pytestmark = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


class Child:
    """A forked child that does `first`, says so, and waits until it is told to end."""

    def __init__(self, first: Callable[[], object] = lambda: None) -> None:
        self.said, said = os.pipe()
        told, self.tell = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                first()
                os.write(said, b".")
                os.close(self.tell)
                os.read(told, 1)
            finally:
                os._exit(0)
        os.close(said)
        os.close(told)
        assert os.read(self.said, 1) == b"."

    def end(self) -> None:
        os.close(self.tell)
        os.waitpid(self.pid, 0)
        os.close(self.said)


def free(path: Path) -> bool:
    held = Flock.on_file(path)
    if held is not None:
        held.release()
    return held is not None


def test_one_holds_it(tmp_path: Path) -> None:
    path = tmp_path / "locks" / "a"
    held = Flock.on_file(path)
    assert held is not None
    assert not free(path)
    held.release()
    held.release()
    assert free(path)


def test_many_share_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    shared = [Flock.on_file(path, shared=True) for _ in range(2)]
    assert not free(path)
    for held in shared:
        assert held is not None
        held.release()
    assert free(path)


def test_a_directory_is_locked_but_not_made(tmp_path: Path) -> None:
    held = Flock.on_directory(tmp_path)
    assert held is not None
    assert Flock.on_directory(tmp_path) is None
    held.release()
    with pytest.raises(FileNotFoundError):
        Flock.on_directory(tmp_path / "gone")


def test_a_fork_does_not_keep_it(tmp_path: Path) -> None:
    path = tmp_path / "a"
    held = Flock.on_file(path)
    assert held is not None
    child = Child()
    held.release()
    assert free(path)
    child.end()


def test_a_fork_does_not_keep_it_when_its_holder_is_killed(tmp_path: Path) -> None:
    path = tmp_path / "a"
    report, wrote = os.pipe()

    def hold_and_fork() -> None:
        assert Flock.on_file(path) is not None
        if os.fork() == 0:
            signal.alarm(300)  # nobody outlives a test run that was killed
            os.write(wrote, str(os.getpid()).encode())
            signal.pause()

    holder = Child(hold_and_fork)
    assert not free(path)
    orphan = int(os.read(report, 20))
    os.kill(holder.pid, 9)
    holder.end()
    try:
        assert free(path)
    finally:
        os.kill(orphan, 9)
        os.close(report)
        os.close(wrote)


def test_a_fork_does_not_give_it_back(tmp_path: Path) -> None:
    path = tmp_path / "a"
    held = Flock.on_file(path)
    assert held is not None
    child = Child(held.release)
    assert not free(path)
    child.end()
    held.release()


def test_what_a_fork_does_first(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(flocks, "_held", set())
    held = Flock.on_file(tmp_path / "a")
    assert held is not None
    flocks._let_go()
    assert flocks._held == set()
    held.release()
    assert free(tmp_path / "a")


def test_a_detached_one_is_shared_with_forks(tmp_path: Path) -> None:
    path = tmp_path / "a"
    held = Flock.on_file(path)
    assert held is not None
    descriptor = held.detach()
    child = Child()
    os.close(descriptor)
    assert not free(path)
    child.end()
    assert free(path)
    with pytest.raises(ValueError, match="no longer held"):
        held.detach()


def test_a_file_system_without_locks_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = len(os.listdir("/proc/self/fd"))

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    with pytest.raises(OSError, match="No locks"):
        Flock.on_file(tmp_path / "a")
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_that_can_only_be_read_can_be_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    there = os.open

    def refuse(path: Path, flags: int, *mode: int) -> int:
        if flags & os.O_RDWR:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS))
        return there(path, flags, *mode)

    (tmp_path / "lock").touch()
    monkeypatch.setattr(os, "open", refuse)
    held = Flock.on_file(tmp_path / "lock")
    assert held is not None
    assert Flock.on_file(tmp_path / "lock", shared=True) is None
    held.release()
    with pytest.raises(OSError, match="Read-only file system"):
        Flock.on_file(tmp_path / "missing")


def test_a_file_that_is_removed_before_the_lock_is_taken_is_made_anew(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a"
    takes, flock = iter(["removed", "another's"]), fcntl.flock

    def removed_first(descriptor: int, operation: int) -> None:
        meanwhile = next(takes, "") if operation & fcntl.LOCK_NB else ""
        if meanwhile:
            path.unlink()
        if meanwhile == "another's":
            path.touch()
        flock(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", removed_first)
    held = Flock.on_file(path)
    monkeypatch.undo()
    assert held is not None
    assert not free(path)
    held.retire(path)
    assert not path.exists()
    assert free(path)
