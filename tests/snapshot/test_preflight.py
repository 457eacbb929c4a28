from __future__ import annotations

import ctypes
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import preflight, procfs, unixsockets

LIBC = "import ctypes; libc = ctypes.CDLL(None, use_errno=True); "


@contextmanager
def process(code: str) -> Iterator[int]:
    """A Python that has run this code and waits."""
    child = subprocess.Popen(
        [sys.executable, "-c", f"{code}\nprint('ready', flush=True)\ninput()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,
    )
    assert child.stdin is not None
    assert child.stdout is not None
    try:
        assert child.stdout.readline() == b"ready\n"
        yield child.pid
    finally:
        child.kill()
        child.wait()
        child.stdin.close()
        child.stdout.close()


def found(code: str) -> list[str]:
    with process(code) as pid:
        return [each.what for each in preflight.obstacles(pid)]


def test_an_ordinary_process_may_be_dumped() -> None:
    with process(
        "import threading, socket; a, b = socket.socketpair(); s = socket.socket()"
    ) as pid:
        preflight.examine(pid)


def test_a_connection_to_another_program_is_named(tmp_path: Path) -> None:
    path = str(tmp_path / "daemon.sock")
    with socket.socket(socket.AF_UNIX) as daemon:
        daemon.bind(path)
        daemon.listen()
        code = f"import socket; s = socket.socket(socket.AF_UNIX); s.connect({path!r})"
        with process(code) as pid, pytest.raises(SnapshotRefused) as caught:
            preflight.examine(pid)
    assert path in caught.value.message
    assert f"process {pid} (python" in caught.value.message
    assert "Close that connection" in caught.value.remedy


def test_a_connection_within_the_tree_is_not(tmp_path: Path) -> None:
    path = str(tmp_path / "inner.sock")
    code = (
        "import os, socket, time\n"
        f"d = socket.socket(socket.AF_UNIX); d.bind({path!r}); d.listen()\n"
        "if os.fork() == 0:\n"
        f"    s = socket.socket(socket.AF_UNIX); s.connect({path!r}); time.sleep(1000)\n"
        "c = d.accept()"
    )
    with process(code) as pid:
        preflight.examine(pid)
        for child in procfs.children(pid):
            os.kill(child, 9)


@pytest.mark.criu  # where kernels may be dumped, these may be made
@pytest.mark.parametrize(
    ("code", "what"),
    [
        (LIBC + "b = (ctypes.c_char * 120)(); assert libc.syscall(425, 8, b) >= 0", "an io_uring"),
        (LIBC + "assert libc.syscall(323, 1) >= 0", "a userfaultfd"),
    ],
)
def test_what_criu_knows_no_way_to_keep(code: str, what: str) -> None:
    if sys.platform != "linux" or os.uname().machine != "x86_64":
        pytest.skip("the numbers of these calls are x86_64's")
    assert found(code) == [what]


def test_a_session_of_another_program_is_named() -> None:
    with process("import os, signal\nif os.fork() == 0: signal.pause()") as leader:
        (child,) = procfs.children(leader)
        with pytest.raises(SnapshotRefused, match="session"):
            preflight.examine(child)
        os.kill(child, 9)


@pytest.mark.criu  # where kernels may be dumped, these may be made
def test_a_session_from_outside_the_namespace_is_named(tmp_path: Path) -> None:
    code = (
        "import os\n"
        "from zerostart_jupyter.snapshot import preflight\n"
        "print([each.what for each in preflight.obstacles(os.getpid())])"
    )
    ran = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", sys.executable, "-c", code],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert "a session of another program" in ran.stdout


def test_a_tracer_is_named() -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    seize, detach = 0x4206, 17
    with process("") as pid:
        assert libc.ptrace(seize, pid, None, None) == 0
        with pytest.raises(SnapshotRefused, match="a tracer"):
            preflight.examine(pid)
        libc.ptrace(detach, pid, None, None)


def test_terminals_of_others_and_of_our_own() -> None:
    main, side = os.openpty()
    try:
        name = os.ttyname(side)
        code = f"import os; a = os.open({name!r}, os.O_RDWR | os.O_NOCTTY); own = os.openpty()"
        with process(code) as pid:
            assert {each.target for each in preflight.terminals(pid)} == {name}
    finally:
        os.close(main)
        os.close(side)


def test_connections_that_will_close_are_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        with process(f"import socket; s = socket.create_connection(('127.0.0.1', {port}))") as pid:
            assert preflight.connections(pid) == [f"127.0.0.1:{port}"]


def test_peers_are_mutual() -> None:
    one, two = socket.socketpair()
    with one, two:
        inodes = [os.fstat(each.fileno()).st_ino for each in (one, two)]
        known = unixsockets.peers()
        assert known[inodes[0]] == inodes[1]
        assert known[inodes[1]] == inodes[0]


def test_what_proc_says_of_one_that_is_gone() -> None:
    child = subprocess.Popen(["true"])
    child.wait()
    assert procfs.tree(child.pid) == [child.pid]
    assert procfs.threads(child.pid) == []
    assert procfs.status(child.pid) == {}
    assert procfs.session(child.pid) is None
    assert list(procfs.descriptors(child.pid)) == []


def test_descriptors_and_their_flags(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as stream, path.open() as reading:
        opened = {each.number: each for each in procfs.descriptors(os.getpid())}
        assert opened[stream.fileno()].writable
        assert not opened[reading.fileno()].writable
        assert opened[stream.fileno()].target == str(path)
