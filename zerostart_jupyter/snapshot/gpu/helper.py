"""The one process that speaks to CUDA's driver for all kernels of a user: run as a program.

A process cannot checkpoint itself, and initialising CUDA takes seconds: so this one does it once
and stays, without a context of its own. It listens on an abstract unix socket (unix(7)): taking
the name is what makes it the only one, and nothing is left behind when it ends. Whoever connects
must be of the same user. One request a connection, so that nobody is dumped while connected.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.snapshot import procfs, wire
from zerostart_jupyter.snapshot.gpu import devices, finding, steps
from zerostart_jupyter.snapshot.gpu.driver import Driver

IDLE = 1800.0  # seconds without a request after which it ends
_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid
_TICK = 5.0
_TOLD = 10.0  # seconds a client may take to say what it wants


def main(argv: Sequence[str] | None = None) -> int:
    """Serve until nobody has asked for a while, or a call of the driver does not come back."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--socket", required=True, help="name of the abstract socket")
    parser.add_argument("--timeout", required=True, type=float, help="seconds for the program")
    given = parser.parse_args(argv)
    if os.fork():
        os._exit(0)
    with socket.socket(socket.AF_UNIX) as door:
        try:
            door.bind(f"\0{given.socket}")
        except OSError:  # another was faster, and serves whoever started us
            return 0
        door.listen(16)
        door.settimeout(_TICK)
        Server(given.timeout).serve(door)
    return 0


class Server:
    """Serves each connection in a thread: a driver that hangs for one must not hang for all."""

    def __init__(self, timeout: float) -> None:
        self._timeout = timeout
        self._lock = threading.Lock()
        self._driver: Driver | None = None
        self._serving = 0
        self._last = time.monotonic()

    def serve(self, door: socket.socket) -> None:
        """Until it has been idle for long."""
        while self._serving or time.monotonic() - self._last < IDLE:
            with contextlib.suppress(TimeoutError):
                client, _ = door.accept()
                with self._lock:
                    self._serving += 1
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        try:
            with client, contextlib.suppress(OSError, EOFError, TimeoutError):
                _, user, _ = _PEER.unpack(
                    client.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
                )
                if user in (0, os.geteuid()):
                    said = wire.Reader(client.fileno()).wait(
                        check=wire.until(time.monotonic() + _TOLD)
                    )
                    wire.send(client.fileno(), self._answer(said))
        finally:
            with self._lock:
                self._serving -= 1
                self._last = time.monotonic()

    def _answer(self, asked: wire.Message) -> wire.Message:
        seconds = float(asked["seconds"])
        # The driver cannot be interrupted. Whoever asks then finds us gone, and asks another.
        watch = threading.Timer(seconds, os._exit, [1])
        watch.daemon = True
        watch.start()
        try:
            act: Callable[[wire.Message], dict[str, Any]] = getattr(self, f"_do_{asked['do']}")
            return {"kind": "done", **act(asked)}
        except Exception as error:
            return wire.describe(error)
        finally:
            watch.cancel()

    def _do_look(self, asked: wire.Message) -> dict[str, Any]:
        """The processes of a kernel that use the GPU, and the GPUs."""
        pid = locate(Process.from_json(asked["process"]))
        return self._about(steps.users(self._opened(), pid) if steps.suspects(pid) else [])

    def _do_lock(self, asked: wire.Message) -> dict[str, Any]:
        driver, pids = self._users(asked)
        steps.lock(driver, pids, float(asked["seconds"]) / 2)
        return {}

    def _do_checkpoint(self, asked: wire.Message) -> dict[str, Any]:
        driver, pids = self._users(asked)
        before = devices.read()
        steps.checkpoint(driver, pids)
        still = [pid for pid in pids if steps.holds_gpu(pid)]
        return {"before": before.as_json(), "still": still, **self._about(pids)}

    def _do_put_back(self, asked: wire.Message) -> dict[str, Any]:
        driver, pids = self._users(asked)
        mapping = None
        if asked.get("saved"):
            mapping = devices.mapping(devices.Machine.from_json(asked["saved"]), devices.read())
        before = devices.read()
        steps.put_back(driver, pids, mapping)
        return {"before": before.as_json(), **self._about(pids)}

    def _users(self, asked: wire.Message) -> tuple[Driver, list[int]]:
        driver = self._opened()
        return driver, steps.users(driver, locate(Process.from_json(asked["process"])))

    def _about(self, pids: list[int]) -> dict[str, Any]:
        machine = devices.read()
        states = {pid: self._opened().state(pid) for pid in pids}
        return {
            "machine": machine.as_json(),
            "states": [str(state) for state in states.values()],
            "held": machine.held(pids),
            "driver": self._opened().name if pids else "",
        }

    def _opened(self) -> Driver:
        with self._lock:
            if self._driver is None:
                self._driver = finding.driver(self._timeout)
            return self._driver


def locate(process: Process) -> int:
    """The pid that a process has for us; it may know itself by that of an inner namespace.

    Raises GpuFailed if it is gone.
    """
    if process.near:
        if process.alive():
            return process.pid
    else:
        # Not by its birth: CRIU restores into a time namespace, where clocks count otherwise.
        for pid in filter(str.isdigit, os.listdir(procfs.PROC)):
            inside = procfs.status(pid).get("NSpid", "").split()
            if inside and int(inside[-1]) == process.pid and _namespace(pid) == process.namespace:
                return int(pid)
    raise GpuFailed(
        f"Process {process.pid} is gone, or cannot be seen from here.", remedy="Start it again."
    )


def _namespace(pid: str) -> str:
    try:
        return os.readlink(procfs.PROC / pid / "ns" / "pid")
    except OSError:
        return ""


if __name__ == "__main__":
    raise SystemExit(main())
