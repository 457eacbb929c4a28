"""The way to the helper: found or started, asked one thing, let go of."""

from __future__ import annotations

import contextlib
import hashlib
import os
import signal
import socket
import struct
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from zerostart_jupyter import __version__
from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import launch, wire

_PEER = struct.Struct("3i")  # struct ucred: pid, uid, gid
_START = 60.0  # seconds for the helper to answer the door
_GRACE = 5.0  # seconds beyond what the helper gives the driver, after which it hangs itself
_STEP = 0.01


@dataclass(frozen=True)
class Helper:
    """The helper of this user; `process` is the kernel it is asked about.

    `path` is where the helper finds its modules, by default where this process finds them.
    """

    settings: Settings
    process: Process = field(default_factory=Process.current)
    path: Sequence[str] = field(default_factory=lambda: where())

    def ask(self, do: str, *, tries: int = 1, **more: object) -> wire.Message:
        """Its answer; raises GpuFailed with what went wrong, and when it did not answer.

        With more `tries` another helper is asked where one ended on the way.
        """
        for left in reversed(range(tries)):
            try:
                return self._ask(do, more)
            except _Ended as error:
                if not left:
                    raise GpuFailed(error.message, remedy=error.remedy) from error
        raise AssertionError("asked for no try at all")

    def _ask(self, do: str, more: Mapping[str, object]) -> wire.Message:
        seconds = self.settings.gpu_timeout
        body = {"do": do, "process": self.process.as_json(), "seconds": seconds, **more}
        with self._connected() as door:
            reader = wire.Reader(door.fileno())
            try:
                wire.send(door.fileno(), body)
                answer = reader.wait(check=wire.until(time.monotonic() + seconds + _GRACE))
            except TimeoutError as error:
                _end(door)
                raise _Ended(*self._silent(do)) from error
            except (EOFError, OSError) as error:
                raise _Ended(*self._silent(do)) from error
        if answer["kind"] == "failed":
            raise wire.revive(answer)
        return answer

    def _connected(self) -> socket.socket:
        deadline = time.monotonic() + _START
        started = False
        while True:
            door = socket.socket(socket.AF_UNIX)
            try:
                door.connect(f"\0{self.name}")
            except ConnectionRefusedError:
                door.close()
                if not started:
                    self._start()
                    started = True
                elif time.monotonic() > deadline:
                    break
                time.sleep(_STEP)
                continue
            if _user(door) in (0, os.geteuid()):
                return door
            door.close()
            raise GpuFailed(
                "Another user listens where our GPU helper should.", remedy="Ask who that is."
            )
        raise GpuFailed(
            "The helper that speaks to the GPU's driver did not start.",
            remedy=f"See what `{' '.join(self._command())}` says in a terminal.",
        )

    @property
    def name(self) -> str:
        """Its address, one for each user, version, Python and place modules come from."""
        about = (__version__, sys.executable, *self.path)
        return (
            f"zerostart-gpu-{os.geteuid()}-{hashlib.sha256(repr(about).encode()).hexdigest()[:16]}"
        )

    def _command(self) -> list[str]:
        timeout = str(self.settings.gpu_timeout)
        return launch.command("gpu.helper", "--socket", self.name, "--timeout", timeout)

    def _start(self) -> None:
        environ = launch.environment()
        known = filter(None, environ.get("PYTHONPATH", "").split(os.pathsep))
        environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys([*known, *self.path]))
        environ.pop("CUDA_VISIBLE_DEVICES", None)  # the driver counts all of them
        subprocess.run(
            self._command(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=environ,
            cwd="/",
            start_new_session=True,
            check=False,
        )

    def _silent(self, do: str) -> tuple[str, str]:
        seconds = self.settings.gpu_timeout
        return (
            f"The GPU's driver did not answer within {seconds:g} s ({do.replace('_', ' ')}).",
            "Set ZS_GPU_TIMEOUT to more seconds if the kernel holds that much.",
        )


class _Ended(GpuFailed):
    """The helper is gone without an answer."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message, remedy=remedy)


def where() -> list[str]:
    """The folders modules come from here, those included that this kernel installed into."""
    return [path for path in sys.path if path and os.path.isdir(path)]


def _user(door: socket.socket) -> int:
    return int(_peer(door)[1])


def _end(door: socket.socket) -> None:
    """Kill a helper that ought to have ended itself; in an outer namespace it has no pid here."""
    pid = _peer(door)[0]
    if pid > 0:
        with contextlib.suppress(OSError):
            os.kill(pid, signal.SIGKILL)


def _peer(door: socket.socket) -> tuple[int, ...]:
    return _PEER.unpack(door.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size))
