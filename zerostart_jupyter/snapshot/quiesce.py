"""A kernel lets go of its sockets, and takes these or others.

A socket that is dumped while it listens could not be restored beside the one that goes on
listening. So before a dump each is unbound where it lives; afterwards the original binds the same
ports, a restored kernel those of the connection it is given.

A request that waits while the kernel is frozen must not be served before its client has come back
to iopub, or its output is lost: shell is bound last, once the subscribers are there.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.snapshot import copies, hooks
from zerostart_jupyter.snapshot.adapter import PORTS, LiveKernel
from zerostart_jupyter.snapshot.channel import PATIENCE, Channel
from zerostart_jupyter.snapshot.replies import PatientReplies

RETURN = 2.0  # seconds for the known subscribers to come back to iopub
ARRIVE = 1.0  # seconds for the first subscriber of a restored kernel
_STEP = 0.001  # seconds between two looks at something that takes milliseconds
_ANY = "tcp://127.0.0.1:*"


Place = int | str


class Sockets:
    """The sockets of a live kernel, bound or let go."""

    def __init__(self, kernel: LiveKernel) -> None:
        self._kernel = kernel
        self._released: dict[str, str] = {}  # channel -> endpoint
        self._listening: dict[int, int] = {}  # port -> descriptor
        self._heartbeat: int | None = None
        self.subscribers = 0

    def let_go(self) -> None:
        """Send what is printed, unbind everything and wait until the ports are free.

        Whatever of it fails: `take()` puts back what was done.
        """
        own = places(self._kernel.connection()) | {"pipe": self._kernel.pipe_port()}
        children = copies.held(own.values())
        try:
            self._unbind(own, {each.fileno() for each in children})
            copies.shut(children)
        finally:
            copies.close(children)

    def _unbind(self, own: Mapping[str, Place], but: Collection[int]) -> None:
        kernel = self._kernel
        channels = kernel.channels()
        self.subscribers = len(list(_peers({own["iopub"]}, but)))
        hooks.tell_silenced()
        kernel.flush()
        for name in ("shell", "control", "stdin", "iopub", "pipe"):
            endpoint = channels[name].endpoint()
            channels[name].unbind(endpoint)
            self._released[name] = endpoint
        kernel.detach_debugger(self._released["shell"])
        self._heartbeat = int(kernel.app.hb_port)
        kernel.stop_heartbeat()
        _wait_until_free(set(own.values()), channels["stdin"], but)

    def take(
        self,
        connection: Mapping[str, Any] | None = None,
        *,
        subscribers: int = 0,
        listening: Mapping[int, int] | None = None,
    ) -> None:
        """Bind what was let go again, or the ports of another connection (0: any).

        With another connection `subscribers` are expected at iopub, at least one; `listening` are
        sockets that listen there already, by port.
        """
        kernel = self._kernel
        self._listening = dict(listening or {})
        if connection is None:
            ends = self._released
            heartbeat, expected, patience = self._heartbeat, self.subscribers, RETURN
        else:
            ends = {name: _endpoint(connection, name) for name in PORTS} | {"pipe": _ANY}
            heartbeat, expected = int(connection["hb_port"]), max(1, subscribers)
            patience = RETURN if subscribers else ARRIVE
        with kernel.subscriptions() as seen:
            for name in ("iopub", "pipe", "control", "stdin"):
                self._bind(name, ends)
            if heartbeat is not None:
                self._heartbeat = kernel.start_heartbeat(heartbeat)
            if "iopub" in ends:
                _wait_for(seen, expected, patience)
        PatientReplies(kernel.channels()["shell"]).begin()
        if shell := self._bind("shell", ends):
            kernel.attach_debugger(shell)
        if connection is not None:
            kernel.note_ports(self._ports())
        self._released.clear()
        self._heartbeat = None
        hooks.tell_heard()

    def _bind(self, name: str, ends: Mapping[str, str]) -> str | None:
        if name not in ends:
            return None
        channel = self._kernel.channels()[name]
        prepare = self._preparation(name, ends[name])
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                endpoint = channel.bind(_ANY if name == "pipe" else ends[name], prepare)
                break
            except OSError as error:  # zmq.ZMQError is one
                if time.monotonic() > deadline:
                    raise SnapshotError(
                        f"The kernel's {name} port {ends[name]} is taken: {error}.",
                        remedy="Restart the kernel.",
                    ) from error
                time.sleep(_STEP)
        if name == "pipe":
            self._kernel.note_pipe(endpoint)
        self._released[name] = endpoint
        return endpoint

    def _preparation(self, name: str, endpoint: str) -> Callable[[Any], None]:
        import zmq

        port = endpoint.rpartition(":")[2]
        given = self._listening.pop(int(port), -1) if port.isdecimal() else -1

        def prepare(socket: Any) -> None:
            if name != "pipe":
                self._kernel.secure(socket)
            socket.setsockopt(zmq.USE_FD, given)

        return prepare

    def _ports(self) -> dict[str, int]:
        ends = ((name, self._released[name]) for name in PORTS)
        found = {name: int(re.split("[:-]", end)[-1]) for name, end in ends}
        return found | {"hb": self._heartbeat or 0}


def _endpoint(connection: Mapping[str, Any], name: str) -> str:
    port = int(connection[f"{name}_port"])
    if connection["transport"] == "tcp":
        return f"tcp://{connection['ip']}:{port or '*'}"
    return f"{connection['transport']}://{connection['ip']}-{port}"


def _wait_for(seen: threading.Semaphore, expected: int, patience: float) -> None:
    deadline = time.monotonic() + patience
    for _ in range(expected):
        if not seen.acquire(timeout=max(0.0, deadline - time.monotonic())):
            return


def places(connection: Mapping[str, Any]) -> dict[str, Place]:
    """Where the kernel of a connection listens, by channel: TCP ports or paths of sockets."""
    ports = {name: int(connection[f"{name}_port"]) for name in (*PORTS, "hb")}
    if connection["transport"] == "tcp":
        return dict(ports)
    return {name: f"{connection['ip']}-{port}" for name, port in ports.items()}


def _wait_until_free(own: Collection[Place], stdin: Channel, but: Collection[int]) -> None:
    """Wait for libzmq's threads to close what was unbound, and to send what was pending."""
    deadline = time.monotonic() + PATIENCE
    while any(_sockets(own, but)):
        if time.monotonic() > deadline:
            raise SnapshotError(
                "The kernel's sockets did not close.", remedy="Try again; the kernel is as it was."
            )
        stdin.settle()
        time.sleep(_STEP)


def _peers(own: Collection[Place], but: Collection[int]) -> Iterator[socket.socket]:
    """Our ends of established connections to these places."""
    for each in _sockets(own, but):
        with contextlib.suppress(OSError):
            each.getpeername()
            yield each


def _sockets(own: Collection[Place], but: Collection[int]) -> Iterator[socket.socket]:
    """Our sockets at these places, listening or connected, without those descriptors."""
    for name in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if int(name) in but or not os.readlink(f"/proc/self/fd/{name}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(name))) as each:
                if copies.address(each) in own:
                    yield each
