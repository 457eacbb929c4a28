"""What a restored kernel must find free, as this machine has it at the moment."""

from __future__ import annotations

import fcntl
import os
import socket
from pathlib import Path

from zerostart_jupyter.snapshot import occupied


def test_a_name_that_somebody_listens_at(tmp_path: Path) -> None:
    name = f"zs-occupied-{os.getpid()}"
    place = ("unix", f"@{name}", 0, 0)
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"\0{name}")
        assert list(occupied.taken([place])) == []  # bound alone: nobody could connect
        listener.listen()
        assert list(occupied.taken([place])) == [f"another program listens at @{name}"]
    assert list(occupied.taken([place])) == []


def test_a_port_that_is_in_use() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (said,) = occupied.taken([("tcp", "127.0.0.1", port, 0)])
        assert said == f"TCP port {port} is in use, which its programs listen at"
    assert list(occupied.taken([("tcp", "127.0.0.1", port, 0)])) == []


def test_a_lock_that_somebody_holds(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        (place,) = [each for each in occupied.locks([os.getpid()]) if each[1] == str(path)]
        assert place[0] == "flock write"
        assert list(occupied.taken([place])) == [f"{path} is locked by another program"]
    assert list(occupied.taken([place])) == []
