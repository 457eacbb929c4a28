from __future__ import annotations

import socket

import pytest
import zmq

from zerostart_jupyter.snapshot import ports


def free() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_a_held_port_is_nobody_elses_but_a_kernels() -> None:
    port = free()
    held = ports.hold({"transport": "tcp", "ip": "127.0.0.1", "shell_port": port, "key": "x"})
    try:
        assert [each.getsockname()[1] for each in held] == [port]
        with socket.socket() as stranger, pytest.raises(OSError, match="in use"):
            stranger.bind(("127.0.0.1", port))
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port))
        with zmq.Context() as context, context.socket(zmq.ROUTER) as shell:
            shell.bind(f"tcp://127.0.0.1:{port}")
            socket.create_connection(("127.0.0.1", port)).close()
    finally:
        for each in held:
            each.close()


def test_one_that_is_taken_is_left_to_who_has_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        for each in ports.hold({"transport": "tcp", "ip": "127.0.0.1", "hb_port": port}):
            each.close()
    assert ports.hold({"transport": "ipc", "ip": "/tmp/x", "hb_port": 1}) == []
