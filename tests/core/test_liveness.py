"""Whether a process still runs, told by more than its pid."""

from __future__ import annotations

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest

from zerostart_jupyter.core import liveness
from zerostart_jupyter.core.liveness import Process

WAITS = [sys.executable, "-c", "input()"]


def look_at(child: subprocess.Popen[bytes]) -> Process:
    return Process(child.pid, liveness._born(str(child.pid)), liveness._namespace("self"))


def test_a_process_knows_itself() -> None:
    me = Process.current()
    assert (me.pid, me.alive()) == (os.getpid(), True)
    assert Process.from_json(me.as_json()) == me


def test_one_that_ended_is_not_alive_whether_reaped_or_not() -> None:
    child = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
    seen = look_at(child)
    assert seen.alive()
    child.kill()
    os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
    assert not seen.alive()
    child.communicate()
    assert not seen.alive()


def test_another_with_its_pid_is_another() -> None:
    assert not dataclasses.replace(Process.current(), born="1").alive()


def test_of_a_namespace_that_is_gone() -> None:
    assert not dataclasses.replace(Process.current(), namespace="pid:[1]").alive()


def test_of_a_foreign_namespace_in_which_something_runs(tmp_path: Path) -> None:
    me = Process.current()
    root = tmp_path / "proc"
    for pid, namespace in (("self", "pid:[7]"), ("12", "pid:[7]"), ("13", me.namespace)):
        (root / pid / "ns").mkdir(parents=True)
        (root / pid / "ns" / "pid").symlink_to(namespace)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(liveness, "_PROC", root)
        assert me.alive()
        assert not dataclasses.replace(me, namespace="pid:[9]").alive()


@pytest.mark.parametrize("body", [{}, {"pid": "x", "born": "", "namespace": ""}, {"pid": None}])
def test_what_cannot_be_read(body: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError, ValueError)):
        Process.from_json(body)


def test_without_proc(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(liveness, "_PROC", tmp_path)
    me = Process.current()
    assert (me.born, me.namespace) == ("", "")
    assert me.alive()
    child = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
    child.kill()
    child.communicate()
    assert not dataclasses.replace(me, pid=child.pid).alive()

    def refuse(*_: object) -> None:
        raise PermissionError

    monkeypatch.setattr(os, "kill", refuse)
    assert me.alive()
