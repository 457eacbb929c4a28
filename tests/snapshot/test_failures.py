"""Whatever goes wrong while a kernel is saved: it goes on, and nothing is left behind."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.faulty import Broken, assert_untouched, dumper
from tests.snapshot.kernels import Kernel, kernel, ours
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.status import request_cancel
from zerostart_jupyter.snapshot import criu

pytestmark = pytest.mark.criu


@pytest.fixture
def python(broken: Broken) -> Iterator[Kernel]:
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 1")
        yield made


def test_criu_fails(python: Kernel, broken: Broken, private: Path) -> None:
    broken.does('echo "(00.01) Error (criu/x.c:1): No such luck" > "$images/dump.log"; exit 1')
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("CriuFailed")
    assert "No such luck" in error
    assert_untouched(python, private)


def test_criu_hangs(broken: Broken, private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZS_CRIU_TIMEOUT", "0.5")
    broken.does("exec sleep 1000")
    with kernel() as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        error = python.attempt("z.snapshot('one')").error
        assert error.startswith("CriuFailed")
        assert "ZS_CRIU_TIMEOUT" in error
        assert_untouched(python, private)


def test_criu_is_killed_while_it_writes_pages(
    python: Kernel, broken: Broken, private: Path
) -> None:
    python.run("import os; big = os.urandom(1 << 20) * 700; total = hash(big)")
    broken.does(
        '$real "$@" & pid=$!\n'
        'while [ ! -s "$images"/pages-1.img ]; do :; done\n'
        "kill -KILL $pid; wait $pid"
    )
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("CriuFailed")
    assert python.run("hash(big[:1] + big[1:]) == total") == "True"
    assert_untouched(python, private)


def test_the_helper_is_killed(python: Kernel, broken: Broken, private: Path) -> None:
    broken.does("exec sleep 1000")
    python.client.execute("z.snapshot('one')", stop_on_error=False)
    eventually(broken.started.exists)
    dumper(private).kill()
    assert_untouched(python, private)


def test_an_interrupt_cancels(python: Kernel, broken: Broken, private: Path) -> None:
    broken.does("exec sleep 1000")
    python.client.execute("z.snapshot('one')", stop_on_error=False)
    eventually(broken.started.exists)
    python.manager.interrupt_kernel()
    assert_untouched(python, private)


def test_a_cancel_in_the_panel_works_while_the_kernel_stands_still(
    python: Kernel, broken: Broken, private: Path
) -> None:
    broken.does("exec sleep 1000")
    python.client.execute("z.snapshot('one')", stop_on_error=False)
    eventually(broken.started.exists)
    (status,) = private.glob("jupyter_runtime_dir/zerostart/*/dumper.json")
    (operation,) = json.loads(status.read_text())["operations"]
    assert (operation["kind"], operation["title"]) == ("snapshot", "one")

    request_cancel(status.parent, operation["id"])

    assert_untouched(python, private)
    assert not status.exists()


def test_the_disk_is_full(python: Kernel, broken: Broken, private: Path) -> None:
    broken.does('exec $real "$@"')
    room = private / "cache" / "snapshots"
    python.run("z.snapshots()")  # makes the room
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=8m,mode=700", "none", room], check=True)
    try:
        error = python.attempt("z.snapshot('one')").error
        assert error.startswith("CriuFailed")
        assert "Make room" in error
        assert_untouched(python, private)
    finally:
        subprocess.run(["umount", room], check=True)


def test_the_disk_is_full_while_memory_is_moved_to_files(
    python: Kernel, broken: Broken, private: Path
) -> None:
    broken.does('exec $real "$@"')
    python.run("import numpy; a = numpy.arange(16 << 17)")
    room = private / "cache" / "memory"
    room.mkdir(mode=0o700, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m,mode=700", "none", room], check=True)
    try:
        error = python.attempt("z.snapshot('one')").error
        assert "No space left" in error, error
        assert python.run("int(a[-1])") == str((16 << 17) - 1)
        assert_untouched(python, private)
        assert not [path for path in room.rglob("*") if path.is_file() and path.stat().st_size]
    finally:
        subprocess.run(["umount", room], check=True)


def test_criu_hangs_while_it_restores(
    broken: Broken, private: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken.does('exec $real "$@"')
    with kernel() as python:
        python.run("import os, zerostart_jupyter.snapshot as z; x = 1")
        python.run("z.snapshot('one'); x = 2")
        python.run("os.environ['ZS_CRIU_TIMEOUT'] = '0.5'")
        broken.does("exec sleep 1000", action="restore")
        error = python.attempt("z.restore('one')").error
        assert error.startswith("CriuFailed")
        assert "ZS_CRIU_TIMEOUT" in error
        assert python.run("x") == "2"
        eventually(python.client.hb_channel.is_beating)
        eventually(lambda: [each.pid for each in ours(private)] == [python.pid])
        assert [each.name for each in snapshot.snapshots()] == ["one"]


def test_a_kernel_that_ends_meanwhile_leaves_nothing(
    python: Kernel, broken: Broken, private: Path
) -> None:
    broken.does("exec sleep 1000")
    python.client.execute("z.snapshot('one')")
    eventually(broken.started.exists)
    os.kill(python.pid, signal.SIGKILL)
    psutil.wait_procs([psutil.Process(python.pid)], timeout=60)
    dumper(private).terminate()
    eventually(lambda: not ours(private))
    assert list((private / "cache" / "snapshots").iterdir()) == []


def test_after_a_failure_the_next_save_succeeds(
    python: Kernel, broken: Broken, private: Path
) -> None:
    python.attempt("z.snapshot('one')")
    broken.does('exec $real "$@"')
    python.run("z.snapshot('one')")
    assert [each.name for each in snapshot.snapshots()] == ["one"]


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ("z.snapshot('../evil')", "SnapshotRefused"),
        ("z.snapshot('')", "SnapshotRefused"),
        ("z.snapshot('one', tier='magic')", "SnapshotRefused"),
        (
            "import asyncio; await asyncio.to_thread(z.snapshot, 'one')",
            "SnapshotRefused",
        ),
        ("z.restore('nothing')", "SnapshotNotFound"),
        ("z.clone('nothing')", "SnapshotNotFound"),
        ("z.publish('nothing')", "SnapshotNotFound"),
        ("z.delete('nothing')", "SnapshotNotFound"),
    ],
)
def test_bad_input(python: Kernel, private: Path, call: str, error: str) -> None:
    assert python.attempt(call).error.startswith(error)
    assert_untouched(python, private)


def test_no_criu(private: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(criu, "_PLACES", ())
    monkeypatch.setenv("ZS_CRIU", str(private / "missing"))
    with kernel() as python:
        python.run("import zerostart_jupyter.snapshot as z; x = 1")
        asked = python.attempt("z.snapshot('one', tier='process')")
        assert "is not a program that answers as CRIU" in asked.error
        assert_untouched(python, private)
        chosen = python.attempt("z.snapshot('one')")
        assert "portable (ZS_CRIU=" in chosen.result, chosen.error
        assert "is not a program that answers as CRIU" in chosen.result


@pytest.mark.parametrize("accepted", [True, False])
def test_what_cannot_be_dumped_is_named_before_anything_is_frozen(
    python: Kernel, broken: Broken, private: Path, accepted: bool
) -> None:
    path = private / "outside.sock"
    with socket.socket(socket.AF_UNIX) as outside, contextlib.ExitStack() as opened:
        outside.bind(str(path))
        outside.listen()
        python.run(f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({str(path)!r})")
        if accepted:
            opened.enter_context(outside.accept()[0])
        error = python.attempt("z.snapshot('one')").error
        assert error.startswith("SnapshotRefused")
        assert str(path) in error
        assert not broken.started.exists()
        python.run("s.close()")
    assert_untouched(python, private)
