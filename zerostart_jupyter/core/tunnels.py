"""A connection to a proxy that is itself under TLS, for what is to go through it under TLS again.

Python's sockets cannot be wrapped twice. So one end of a pair of sockets is handed out, and a
thread carries what goes through it.
"""

from __future__ import annotations

import contextlib
import select
import socket
import ssl
import threading

_PIECE = 64 << 10  # bytes


class _Near(socket.socket):
    """Our end; to whoever is given it a TCP connection."""

    def setsockopt(self, *option: object) -> None:
        """None of TCP's has a meaning here."""


def through_tls(
    address: tuple[str, int],
    timeout: float,
    source: object = None,
    *,
    context: ssl.SSLContext,
) -> socket.socket:
    """A socket whose bytes go to `address` under TLS. Raises OSError or SSLError."""
    with contextlib.ExitStack() as failed:
        plain = failed.enter_context(socket.create_connection(address, timeout))
        far = failed.enter_context(context.wrap_socket(plain, server_hostname=address[0]))
        ours, theirs = socket.socketpair()
        failed.pop_all()
    near = _Near(fileno=ours.detach())
    near.settimeout(timeout)
    threading.Thread(
        target=_carry, args=(theirs, far), name="zerostart-tunnel", daemon=True
    ).start()
    return near


def _carry(near: socket.socket, far: ssl.SSLSocket) -> None:
    """Until one of them ends."""
    ways: list[tuple[socket.socket, socket.socket]] = [(near, far), (far, near)]
    held = {near: b"", far: b""}  # what was read from one, for the other
    with near, far, contextlib.suppress(OSError):
        near.setblocking(False)
        far.setblocking(False)
        while True:
            ends = select.poll()
            for one, other in ways:
                wanted = (0 if held[one] else select.POLLIN) | (
                    select.POLLOUT if held[other] else 0
                )
                if wanted:  # or one that has ended would be reported again and again
                    ends.register(one, wanted)
            ends.poll()
            for one, other in ways:
                with contextlib.suppress(
                    BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError
                ):
                    held[one] = held[one] or one.recv(_PIECE)
                    if not held[one]:
                        return
                    held[one] = held[one][other.send(held[one]) :]
