"""A listening socket whose connections each have a speed limit of their own, the kernel's."""

from __future__ import annotations

import socket

# Python names it from 3.14 on
SO_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)
_BACKLOG = 511


def listening(rate: int) -> socket.socket:
    """A socket on a free port of loopback; `rate` in bytes a second, 0 for no limit.

    Accepted sockets inherit the rate, whichever process accepts them.
    """
    found = socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG)
    if rate:
        found.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, rate)
    found.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return found
