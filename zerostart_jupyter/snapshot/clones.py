"""`clone()`: a snapshot as a new kernel beside this one, in a process of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import restored, revival, wire
from zerostart_jupyter.snapshot.launch import command, environment

_STEP = 0.02
_GRACE = 5.0  # seconds to end by itself; ipykernel waits half a minute for a zombie


@dataclass(frozen=True, slots=True)
class Clone:
    """A kernel of its own. `pid` is its shepherd's, as the system outside counts."""

    snapshot: str
    connection_file: Path
    pid: int

    def client(self, timeout: float = 60) -> Any:
        """A connected jupyter_client.BlockingKernelClient; the caller stops its channels."""
        from jupyter_client.blocking.client import BlockingKernelClient

        client = BlockingKernelClient(connection_file=str(self.connection_file))
        client.load_connection_file()
        client.start_channels()
        client.wait_for_ready(timeout=timeout)
        return client

    def shutdown(self, timeout: float = 30) -> None:
        """End it and all its processes; raises SnapshotError if it does not.

        One that takes its time to end is ended, as Jupyter does it.
        """
        if not self.connection_file.exists():
            return
        client = self.client(timeout)
        try:
            # With its answer: a socket that closes before it is connected takes the request along.
            with contextlib.suppress(TimeoutError):
                client.shutdown(reply=True, timeout=timeout)
        finally:
            client.stop_channels()
        now = time.monotonic()
        if self._has_ended(now + min(_GRACE, timeout)):
            return
        self._terminate()
        if not self._has_ended(now + timeout):
            raise SnapshotError(
                f"The clone of {self.snapshot!r} did not end within {timeout:.0f} s.",
                remedy=f"End it with `kill -9 {self.pid}`.",
            )

    def _has_ended(self, deadline: float) -> bool:
        while self.connection_file.exists():  # its shepherd removes it last
            if time.monotonic() > deadline:
                return False
            time.sleep(_STEP)
        return True

    def _terminate(self) -> None:
        """Nothing where its shepherd cannot be seen: in a namespace, its id is somebody else's."""
        with contextlib.suppress(OSError):
            words = Path(f"/proc/{self.pid}/cmdline").read_bytes().split(b"\0")
            if os.fsencode(self.connection_file) in words:
                os.kill(self.pid, signal.SIGTERM)

    def __repr__(self) -> str:
        return f"Clone of snapshot {self.snapshot!r} at {self.connection_file}"


def clone(name: str, *, settings: Settings | None = None) -> Clone:
    """Start a kernel from a snapshot and wait until it answers; it outlives this process.

    Its connection is encrypted, by keys of its own, if that of the kernel that was saved was.
    Raises SnapshotNotFound, SnapshotRefused, SnapshotCorrupt, CriuMissing, CriuFailed or
    NotPermitted.
    """
    from jupyter_client.connect import write_connection_file
    from jupyter_client.session import new_id
    from jupyter_core.paths import jupyter_runtime_dir

    order = restored.order(name, settings)
    order.lease.close()  # the shepherd takes its own
    info = order.info
    runtime = Path(jupyter_runtime_dir())
    runtime.mkdir(parents=True, exist_ok=True, mode=0o700)
    path = runtime / f"kernel-{new_id()}.json"
    write_connection_file(
        str(path),
        ip="127.0.0.1",
        key=new_id().encode(),
        kernel_name=info.name,
        **_curve_keys() if info.encrypted else {},
    )
    try:
        channel = revival.shepherd()
        pid = launch(info.id, path) if channel is None else _ask(channel, info.id, path)
    except BaseException:
        path.unlink(missing_ok=True)
        raise
    return Clone(info.name, path, pid)


def _curve_keys() -> dict[str, Any]:
    """A fresh pair, as jupyter_client writes it into a connection file."""
    import zmq

    public, secret = zmq.curve_keypair()
    return {"curve_publickey": public, "curve_secretkey": secret}


def launch(snapshot: str, connection_file: Path) -> int:
    """Start a detached shepherd and wait until its kernel answers; returns its pid."""
    reading, writing = os.pipe()
    try:
        argv = command(
            *("shepherd", "--snapshot", snapshot, "-f", str(connection_file)),
            *("--detach", "--ready", str(writing)),
        )
        try:
            subprocess.run(
                argv,
                pass_fds=[writing],
                env=environment(),
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                start_new_session=True,
                check=False,
            )
        finally:
            os.close(writing)
        try:
            answer = wire.Reader(reading).wait()
        except EOFError as error:
            raise SnapshotError(
                "The clone ended before it answered.", remedy="`zerostart doctor` may say why."
            ) from error
    finally:
        os.close(reading)
    if answer["kind"] == "failed":
        raise wire.revive(answer)
    return int(answer["pid"])


def _ask(channel: wire.Channel, snapshot: str, path: Path) -> int:
    """Have our shepherd launch it: what we launch ourselves ends with our namespace."""
    channel.say({"kind": "clone", "snapshot": snapshot, "connection_file": str(path)})
    answer = channel.reader.wait()
    if answer["kind"] == "failed":
        raise wire.revive(answer)
    return int(answer["pid"])
