from __future__ import annotations

import os
import socket
import threading
from pathlib import Path
from typing import Any

import pytest

from tests.snapshot.kernels import Kernel
from zerostart_jupyter.snapshot import listening, ports

NAMES = ("shell", "control", "iopub", "stdin", "hb")


def connection(transport: str = "tcp") -> dict[str, Any]:
    """Free ports, as a client would choose them."""
    taken = [socket.socket() for _ in NAMES]
    for each in taken:
        each.bind(("127.0.0.1", 0))
    numbers = {f"{n}_port": s.getsockname()[1] for n, s in zip(NAMES, taken, strict=True)}
    for each in taken:
        each.close()
    return {"transport": transport, "ip": "127.0.0.1", **numbers}


def test_a_client_that_came_early_is_there_when_the_kernel_takes_over() -> None:
    about = connection()
    held = ports.hold(about)
    sockets = listening.begin(held, about)
    assert len(sockets) == 4  # the heartbeat's is its own
    with socket.create_connection(("127.0.0.1", about["shell_port"])) as client:
        client.sendall(b"hello")
        offer = listening.Offer(sockets)
        server = threading.Thread(target=offer.serve)
        server.start()
        taken = listening.take(offer.path)
        server.join()
        offer.close()
        for each in held:
            each.close()
        assert set(taken) == {about[f"{name}_port"] for name in NAMES[:4]}
        assert not any(os.get_inheritable(number) for number in taken.values())
        with socket.socket(fileno=taken.pop(about["shell_port"])) as shell:
            shell.setblocking(True)
            accepted, _ = shell.accept()
            with accepted:
                assert accepted.recv(5) == b"hello"
    for number in taken.values():
        os.close(number)
    assert not Path(offer.path).parent.exists()


def test_nobody_listens_for_unix_sockets_or_where_somebody_does() -> None:
    assert listening.begin([], connection("ipc")) == []
    about = connection()
    with socket.socket() as other:
        other.bind(("127.0.0.1", about["shell_port"]))
        other.listen()
        held = ports.hold(about)
        found = {each.getsockname()[1] for each in listening.begin(held, about)}
        assert found == {about[f"{name}_port"] for name in ("control", "iopub", "stdin")}
        for each in held:
            each.close()


@pytest.mark.criu
def test_a_client_that_waits_is_served_at_once(python: Kernel) -> None:
    # Its first attempt is accepted: nothing listens a second time in a kernel that was restored.
    python.run("z.snapshot('one')")
    for _ in range(3):
        python.run("z.restore('one')")
        assert python.run("1 + 1") == "2"
    places = python.run(
        "import psutil; sorted({c.laddr.port for c in psutil.net_connections('tcp')"
        " if c.status == 'LISTEN' and c.fd > 0 and c.pid == __import__('os').getpid()})"
    )
    ports_ = {value for name, value in python.connection.items() if name.endswith("_port")}
    assert ports_ <= set(map(int, places.strip("[]").split(", ")))
