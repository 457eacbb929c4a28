"""A stand-in for VS Code: what its Jupyter extension does with a kernel, step by step.

It follows microsoft/vscode-jupyter: `kernelLauncher` and `kernelProcess` (ports and a connection
file of its own, the kernelspec's argv spawned, signals and ends by process id), `rawSocket` (its
ZeroMQ sockets, one identity, no heartbeat), `rawSession` (ready, restart) and
`localKernelSpecFinderBase` (which kernelspecs it lists). It knows no kernel provisioners.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
from jupyter_core.paths import jupyter_data_dir, jupyter_runtime_dir

from tests.patience import PATIENCE, eventually
from tests.snapshot.kernels import Cells, NotebookClient

PLACE = "{connection_file}"
CHANNELS = ("hb", "control", "shell", "stdin", "iopub")
REGISTERED = "jvsc74a57bd0"  # in the names of kernelspecs that VS Code has written itself
_PROBE = 0.2  # seconds between two looks at a port


class KernelDied(Exception):
    """What VS Code shows when a kernel's process ends before its ports are used: its stderr."""


class Process:
    """One launch of a kernelspec's command, as `kernelProcess` makes it."""

    def __init__(self, spec: dict[str, Any], folder: Path) -> None:
        self.connection = _connection(spec)
        self.file = Path(jupyter_runtime_dir()) / f"kernel-v2-{uuid.uuid4().hex}.json"
        self.file.write_text("")  # to see whether it may; a kernel that reads now finds nothing
        self.file.write_text(json.dumps(self.connection))
        self.popen = subprocess.Popen(
            _command(spec["argv"], self.file),
            cwd=folder,
            env=_environment(spec),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        self.output, self.error = "", ""
        self._readers = [
            threading.Thread(target=self._read, args=(name,)) for name in ("output", "error")
        ]
        for each in self._readers:
            each.start()

    def wait_for_ports(self) -> None:
        """Until somebody listens for shell and iopub; raises KernelDied if it ends before."""
        for name in ("shell", "iopub"):
            while not _used(self.connection[f"{name}_port"]):
                with contextlib.suppress(subprocess.TimeoutExpired):
                    self.popen.wait(_PROBE)
                    self.join()
                    raise KernelDied(self.error)

    def interrupt(self) -> None:
        """SIGINT to the process it spawned, and to no other."""
        os.kill(self.popen.pid, signal.SIGINT)

    def dispose(self) -> None:
        """SIGTERM to all that descends from it, then to itself; nobody waits."""
        for each in self.family()[1:]:
            with contextlib.suppress(psutil.NoSuchProcess):
                each.terminate()
        self.popen.terminate()
        self.file.unlink(missing_ok=True)

    def family(self) -> list[psutil.Process]:
        """The process it spawned, and all that descends from it."""
        try:
            first = psutil.Process(self.popen.pid)
            return [first, *first.children(recursive=True)]
        except psutil.NoSuchProcess:
            return []

    def join(self) -> int:
        """Wait until it has ended and all of its output is read; its exit code, as Popen has it."""
        code = self.popen.wait(PATIENCE)
        for each in self._readers:
            each.join(PATIENCE)
        for stream in (self.popen.stdout, self.popen.stderr):
            assert stream is not None
            stream.close()
        return code

    def _read(self, name: str) -> None:
        stream = self.popen.stdout if name == "output" else self.popen.stderr
        assert stream is not None
        for line in stream:
            setattr(self, name, getattr(self, name) + line)


class Window(Cells):
    """A window with one notebook, whose kernel is that of the kernelspec `name`."""

    def __init__(self, name: str, folder: Path) -> None:
        self.spec = listed()[name]
        self.folder = folder
        self.launched: list[Process] = []
        self.start()

    @property
    def process(self) -> Process:
        """The present launch."""
        return self.launched[-1]

    def start(self) -> None:
        """Launch, wait for the ports, connect, and wait until the kernel speaks on iopub."""
        process = Process(self.spec, self.folder)
        self.launched.append(process)
        process.wait_for_ports()
        super().__init__(NotebookClient())
        self.client.load_connection_info(process.connection)
        self.client.start_channels(hb=False)
        asked = self.client.kernel_info()
        heard = self.client.get_iopub_msg(timeout=PATIENCE)
        while heard["parent_header"].get("msg_id") != asked:
            heard = self.client.get_iopub_msg(timeout=PATIENCE)
        assert self.client.get_shell_msg(timeout=PATIENCE)["header"]["msg_type"] == (
            "kernel_info_reply"
        )
        # What it says to a kernel of Python before the user's first cell.
        self.client.execute_interactive("import os as _VSCODE_os", store_history=False)

    def restart(self) -> None:
        """Let go of the kernel without waiting for its end, and start anew: ports, file, key."""
        self.client.stop_channels()
        self.process.dispose()
        self.start()

    def close(self) -> None:
        """Let go of the kernel."""
        self.client.stop_channels()
        for each in self.launched:
            each.dispose()
            each.join()


@contextlib.contextmanager
def window(name: str, folder: Path) -> Iterator[Window]:
    """A window that is closed at the end; nothing of its kernels may be left then."""
    opened = Window(name, folder)
    try:
        yield opened
    finally:
        families = [each for process in opened.launched for each in process.family()]
        opened.close()
        eventually(lambda: not any(each.is_running() for each in families))


def listed() -> dict[str, dict[str, Any]]:
    """The kernelspecs a user can choose, by the folder they are in."""
    found = {}
    for path in (Path(jupyter_data_dir()) / "kernels").glob("**/kernel.json"):
        spec = json.loads(path.read_text())
        if _shown(spec):
            found[path.parent.name] = spec
    return found


def _shown(spec: dict[str, Any]) -> bool:
    """Whether it lists this one: it deletes what it takes for its own, and wants an interpreter."""
    own = ("-m", "ipykernel", "ipykernel_launcher", "-f", PLACE)
    words = [word.lower() for word in spec["argv"][1:] if word.lower() not in own]
    name = ".".join(["undefined", "#".join(words)])
    old = "interpreter" in spec["metadata"] and re.search("[a-f0-9]{32}$", name)
    interpreter = Path(spec["argv"][0])
    launched_by_python = interpreter.is_absolute() and interpreter.exists() and "-m" in spec["argv"]
    return REGISTERED not in name and not old and launched_by_python


def _command(argv: list[str], file: Path) -> list[str]:
    """The argv with this connection file; that of ipykernel is rewritten."""
    place = next(number for number, word in enumerate(argv) if PLACE in word)
    if argv[argv.index("-m") + 1] in ("ipykernel", "ipykernel_launcher"):
        return [*argv[: place - 1], *argv[place + 1 :], f"--f={file}"]
    return [word.replace(PLACE, str(file)) for word in argv]


def _environment(spec: dict[str, Any]) -> dict[str, str]:
    """Its own environment, and the kernelspec's; nothing says who the parent is."""
    found = os.environ | spec.get("env", {}) | {"PYDEVD_IPYTHON_COMPATIBLE_DEBUGGING": "1"}
    for name in ("JPY_PARENT_PID", "JPY_SESSION_NAME"):
        found.pop(name, None)
    return found


def _connection(spec: dict[str, Any]) -> dict[str, Any]:
    with contextlib.ExitStack() as held:
        sockets = [held.enter_context(socket.socket()) for _ in CHANNELS]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        ports = [each.getsockname()[1] for each in sockets]
    return {
        "key": str(uuid.uuid4()),
        "signature_scheme": "hmac-sha256",
        "transport": "tcp",
        "ip": "127.0.0.1",
        **{f"{name}_port": port for name, port in zip(CHANNELS, ports, strict=True)},
        "kernel_name": spec.get("name", "python"),
    }


def _used(port: int) -> bool:
    """Whether somebody takes a connection there, which is closed at once."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
