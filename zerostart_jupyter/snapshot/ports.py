"""Ports kept from everybody else while nobody listens there."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Mapping
from typing import Any


def hold(connection: Mapping[str, Any]) -> list[socket.socket]:
    """Sockets on the TCP ports of a connection; the caller closes them.

    Without them another process may be given such a port, or a client that connects to it may
    by chance be given it as its own and then talk to itself. They do not keep a kernel from
    listening: SO_REUSEADDR, which libzmq sets as well, allows that while nobody else listens.
    """
    held: list[socket.socket] = []
    for port in of(connection):
        each = socket.socket()
        held.append(each)
        each.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        with contextlib.suppress(OSError):
            each.bind((connection["ip"], port))
    return held


def of(connection: Mapping[str, Any]) -> list[int]:
    """The TCP ports of a connection; none where it has another transport."""
    if connection["transport"] != "tcp":
        return []
    return [int(port) for name, port in connection.items() if name.endswith("_port")]
