"""Replies that wait for a client that is still on its way back.

A ROUTER socket drops a message to a peer it does not know. After its sockets were let go, a
kernel knows nobody until the clients have connected again, and the reply of the very cell that
saved or restored it would be lost.
"""

from __future__ import annotations

import time
from typing import Any

from zerostart_jupyter.snapshot.channel import Channel

PATIENCE = 10.0  # seconds for which a reply waits, and for which replies are watched
_STEP = 0.005  # seconds between two attempts


class PatientReplies:
    """Stands before the shell stream's `send_multipart` for a while."""

    def __init__(self, shell: Channel) -> None:
        self._socket = shell.socket
        self._stream = shell.stream
        self._run = shell.run
        self._waiting: list[tuple[float, list[Any]]] = []
        self._ticking = False

    def begin(self) -> None:
        """From now on, and for `PATIENCE` seconds, let replies wait."""

        def begin() -> None:
            self._stream.send_multipart = self._take
            self._stream.io_loop.call_later(PATIENCE, self._step_aside)

        self._run(begin)

    def _take(self, message: list[Any], *_: object, **__: object) -> None:
        self._waiting.append((time.monotonic() + PATIENCE, message))
        if not self._ticking:
            self._tick()

    def _tick(self) -> None:
        import zmq

        self._socket.setsockopt(zmq.ROUTER_MANDATORY, 1)
        still: list[tuple[float, list[Any]]] = []
        try:
            for deadline, message in self._waiting:
                absent = {bytes(waiting[0]) for _, waiting in still}
                if bytes(message[0]) in absent or not self._sent(message):
                    still.append((deadline, message))
        finally:
            self._socket.setsockopt(zmq.ROUTER_MANDATORY, 0)
        now = time.monotonic()
        self._waiting = [each for each in still if each[0] > now]
        self._ticking = bool(self._waiting)
        if self._ticking:
            self._stream.io_loop.call_later(_STEP, self._tick)
        # Sending beside the stream ate the edge that tells it of requests.
        self._stream.flush(zmq.POLLIN)

    def _sent(self, message: list[Any]) -> bool:
        import zmq

        try:
            self._socket.send_multipart(message, zmq.NOBLOCK)
        except zmq.ZMQError as error:
            if error.errno in (zmq.EHOSTUNREACH, zmq.EAGAIN):
                return False
            raise
        return True

    def _step_aside(self) -> None:
        if self._waiting:
            self._stream.io_loop.call_later(PATIENCE, self._step_aside)
        elif self._stream.__dict__.get("send_multipart") == self._take:
            del self._stream.send_multipart
