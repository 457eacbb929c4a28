"""The one place that touches ipykernel's insides: its sockets, loops, counters and requests.

Written against ipykernel 7: shell, control and iopub each have a thread and a loop of their own,
iopub is an XPUB socket, and a cell runs in the main thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import os
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot.channel import PATIENCE, Channel, on_loop

PORTS = ("shell", "control", "iopub", "stdin")


class LiveKernel:
    """The ipykernel this code runs in; `current()` makes one."""

    def __init__(self, app: Any) -> None:
        self.app = app
        self.kernel = app.kernel

    @classmethod
    def current(cls) -> LiveKernel:
        """The kernel of this process; raises SnapshotRefused outside the main thread of one."""
        kernelapp = sys.modules.get("ipykernel.kernelapp")
        if kernelapp is None or not kernelapp.IPKernelApp.initialized():
            raise SnapshotRefused(
                "This process is not a Jupyter kernel.", remedy="Run it in a cell of a notebook."
            )
        if threading.current_thread() is not threading.main_thread():
            raise SnapshotRefused(
                "A snapshot can only be taken and restored by the main thread.",
                remedy="Run it in a cell of its own, not in a thread or a subshell.",
            )
        return cls(kernelapp.IPKernelApp.instance())

    # sockets

    def channels(self) -> dict[str, Channel]:
        """Shell, control, iopub and stdin; `pipe` is where forked children send their output."""
        app, iopub = self.app, self.app.iopub_thread
        on_iopub = on_loop(iopub.io_loop)
        return {
            "shell": Channel(
                "shell",
                app.shell_socket,
                on_loop(app.shell_channel_thread.io_loop),
                self.kernel.shell_stream,
            ),
            "control": Channel(
                "control",
                app.control_socket,
                on_loop(app.control_thread.io_loop),
                self.kernel.control_stream,
            ),
            "iopub": Channel("iopub", iopub.socket, on_iopub, iopub._xpub_stream),
            "pipe": Channel("pipe", iopub._pipe_in.socket, on_iopub, iopub._pipe_in),
            "stdin": Channel("stdin", app.stdin_socket, lambda act: act(), None),
        }

    def pipe_port(self) -> int:
        """Where forked children send their output."""
        return int(self.app.iopub_thread._pipe_port)

    def note_pipe(self, endpoint: str) -> None:
        """Tell forked children where to send their output from now on."""
        self.app.iopub_thread._pipe_port = int(endpoint.rsplit(":", 1)[1])

    def detach_debugger(self, shell: str) -> None:
        """Cut the debugger's inner connection to the shell socket."""
        self.app.debug_shell_socket.disconnect(shell)

    def attach_debugger(self, shell: str) -> None:
        """Make that connection again."""
        inner = self.app.debug_shell_socket
        if self.encrypted:
            self.app._apply_curve_client_options(inner)
        elif inner.mechanism:
            inner.curve_server = False  # for libzmq: no security at all
        inner.connect(shell)

    @property
    def encrypted(self) -> bool:
        """Whether a client needs the CURVE keys of the connection file."""
        return getattr(self.app, "curve_secretkey", None) is not None

    def secure(self, socket: Any) -> None:
        """Set a socket's CURVE keys to those of the connection."""
        if self.encrypted:
            socket.curve_secretkey = self.app.curve_secretkey
            socket.curve_publickey = self.app.curve_publickey
        if self.encrypted or socket.curve_server:
            socket.curve_server = self.encrypted

    def stop_heartbeat(self) -> None:
        """End the heartbeat's thread and its socket."""
        self.app.heartbeat.context.term()
        self.app.heartbeat.join(PATIENCE)

    def start_heartbeat(self, port: int) -> int:
        """Start another heartbeat; returns its port."""
        import zmq
        from ipykernel.heartbeat import Heartbeat

        keys = {}
        if self.encrypted:
            keys = {
                "curve_publickey": self.app.curve_publickey,
                "curve_secretkey": self.app.curve_secretkey,
            }
        address = (self.app.transport, self.app.ip, port)
        heartbeat: Any = Heartbeat
        self.app.heartbeat = heartbeat(zmq.Context(), address, **keys)
        self.app.heartbeat.start()
        return int(self.app.heartbeat.port)

    # what it has to say, and to whom

    def flush(self) -> None:
        """Hand all output printed so far to the iopub socket."""
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(AttributeError, ValueError):
                stream.flush()
        sent = threading.Event()
        self.app.iopub_thread.schedule(sent.set)
        sent.wait(PATIENCE)

    @contextlib.contextmanager
    def subscriptions(self) -> Iterator[threading.Semaphore]:
        """A semaphore that every subscription to iopub releases once."""
        import zmq

        iopub = self.channels()["iopub"]
        handle = self.app.iopub_thread._handle_subscription
        seen = threading.Semaphore(0)

        def take(frames: list[bytes]) -> None:
            handle(frames)
            if frames and frames[0][:1] == b"\x01":
                seen.release()

        def listen(callback: Callable[[list[bytes]], None], *, every: bool) -> None:
            # Without XPUB_VERBOSE a second subscriber to the same topic goes unnoticed.
            iopub.socket.setsockopt(zmq.XPUB_VERBOSE, int(every))
            iopub.stream.on_recv(callback)

        iopub.run(lambda: listen(take, every=True))
        try:
            yield seen
        finally:
            iopub.run(lambda: listen(handle, every=False))

    def connection(self) -> dict[str, Any]:
        """The present connection, as a connection file holds it."""
        app = self.app
        found = {
            "ip": app.ip,
            "transport": app.transport,
            "key": app.session.key.decode(),
            "hb_port": app.hb_port,
        }
        return found | {f"{name}_port": getattr(app, f"{name}_port") for name in PORTS}

    def take_connection(self, file: str, connection: Mapping[str, Any]) -> None:
        """Become the kernel of another connection file; nothing is bound yet."""
        from jupyter_client.session import new_id

        app = self.app
        app.connection_file = file
        app.ip, app.transport = connection["ip"], connection["transport"]
        app.session.key = connection["key"].encode()
        app.session.session = new_id()
        app.session.signature_scheme = connection.get("signature_scheme", "hmac-sha256")
        for name in ("curve_publickey", "curve_secretkey"):
            if hasattr(app, name):
                value = connection.get(name)
                setattr(app, name, value.encode() if isinstance(value, str) else value)

    def note_ports(self, ports: Mapping[str, int]) -> None:
        """Write down what was bound, for `connect_request` and the connection file."""
        for name, port in ports.items():
            setattr(self.app, f"{name}_port", port)
        self.app._ports = dict(ports)
        self.kernel.record_ports({f"{name}_port": port for name, port in ports.items()})

    def write_connection_file(self) -> None:
        """Put ports that were chosen here into the connection file."""
        self.app.write_connection_file()

    @property
    def connection_file(self) -> str:
        """The absolute path of the connection file."""
        return os.path.abspath(str(self.app.abs_connection_file))

    def kernelspec(self) -> str | None:
        """The name of the kernelspec it was started from, as its launcher wrote it down."""
        try:
            found = json.loads(Path(self.connection_file).read_text()).get("kernel_name")
        except (OSError, ValueError):
            return None
        return str(found) if found else None

    # the request being served, and the counters

    def request(self) -> tuple[list[bytes], dict[str, Any]]:
        """The request whose cell is running: whom to answer, and the message."""
        identities = self.kernel._get_shell_context_var(self.kernel._shell_parent_ident)
        return identities, self.kernel.get_parent("shell")

    def serve(self, identities: list[bytes], message: Mapping[str, Any]) -> None:
        """Answer this request in place of the one whose cell is running.

        Both are changed in place: ipykernel's frames below us hold the same objects and will
        send the reply with them.
        """
        present, parent = self.request()
        present[:] = identities
        parent.clear()
        parent.update(message)
        self.kernel.set_parent(present, parent, "shell")

    def pending(self) -> list[list[bytes]]:
        """The requests behind the running cell that its loop has accepted already."""
        found = [request for _, request in _accepted()]
        return sorted(([bytes(part) for part in each] for each in found), key=_date)

    def forget_waiting(self) -> None:
        """Drop the requests that `pending` names; nobody is answered."""
        for task, _ in _accepted():
            task.cancel()

    def drain(self) -> list[list[bytes]]:
        """Take out the requests that came after those."""
        import zmq

        waiting = self._main_pair().to_socket
        found = []
        with contextlib.suppress(zmq.Again):
            while True:
                found.append(waiting.recv_multipart(zmq.NOBLOCK))
        return found

    def enqueue(self, requests: Sequence[Sequence[bytes]]) -> None:
        """Have requests wait behind the running cell."""
        shell, waiting = self.channels()["shell"], self._main_pair().from_socket
        for request in requests:
            shell.run(functools.partial(waiting.send_multipart, list(request)))

    def wrap_execution(self, handler: Callable[..., Any] | None) -> Callable[..., Any]:
        """Have execute requests go through a handler (None: as before); returns the original."""
        original: Callable[..., Any] = self.kernel.execute_request
        self.kernel.shell_handlers["execute_request"] = handler or original
        return original

    def abort_waiting(self) -> None:
        """Serve none of the requests that wait now: nobody expects an answer to them."""
        self.kernel._abort_queues(None)

    def _main_pair(self) -> Any:
        return self.app.shell_channel_thread.manager.get_shell_channel_to_subshell_pair(None)

    def position(self) -> dict[str, Any]:
        """Where the running cell is in the session: prompt number, history line and source."""
        shell = self.kernel.shell
        inputs = shell.history_manager.input_hist_raw
        return {"count": shell.execution_count, "line": len(inputs) - 1, "source": inputs[-1]}

    def take_position(self, position: Mapping[str, Any]) -> None:
        """Have the running cell be at this place of the session."""
        shell, line = self.kernel.shell, int(position["line"])
        history = shell.history_manager
        for inputs in (history.input_hist_parsed, history.input_hist_raw):
            del inputs[line:]
            inputs += [""] * (line - len(inputs)) + [position["source"]]
        shell.execution_count = int(position["count"])

    def begin_session(self) -> None:
        """A history session of its own, so that two clones do not write into one."""
        self.kernel.shell.history_manager.new_session()

    @contextlib.contextmanager
    def history_still(self) -> Iterator[None]:
        """Keep the history's thread from its database.

        Dumped in the middle of a transaction it would have a journal open that is gone by the time
        of a restore.
        """
        history = self.kernel.shell.history_manager
        with history.db_input_cache_lock, history.db_output_cache_lock:
            yield

    # the process around it

    def threads(self) -> list[threading.Thread]:
        """The threads a kernel has of its own, and those its loop may do without."""
        app, own = self.app, self.kernel
        history = getattr(own.shell, "history_manager", None)
        found = [
            *(app.iopub_thread.thread, app.control_thread, app.shell_channel_thread),
            *(app.heartbeat, app.poller, getattr(history, "save_thread", None)),
            *(getattr(each, "watch_fd_thread", None) for each in (own._stdout, own._stderr)),
        ]
        executor = getattr(asyncio.get_running_loop(), "_default_executor", None)
        if executor is not None and executor._idle_semaphore._value == len(executor._threads):
            found += executor._threads
        return [each for each in found if each is not None]

    def loop(self) -> str | None:
        """What is unusual about the event loop cells run in, None if it is asyncio's own."""
        loop = asyncio.get_running_loop()
        if isinstance(loop, asyncio.SelectorEventLoop):
            return None
        return f"an event loop of {type(loop).__module__}"

    def comms(self) -> dict[str, Any]:
        """The open comms, widgets' among them, by id."""
        return dict(self.kernel.comm_manager.comms)

    def outputs(self) -> dict[str, int]:
        """Descriptors of the outputs its launcher gave it; OutStream keeps them aside."""
        copies = {
            name: getattr(getattr(sys, name), "_original_stdstream_copy", None)
            for name in ("stdout", "stderr")
        }
        return {
            "stdin": 0,
            "stdout": 1 if copies["stdout"] is None else int(copies["stdout"]),
            "stderr": 2 if copies["stderr"] is None else int(copies["stderr"]),
        }

    def mute_parent_poller(self) -> bool:
        """Keep ipykernel from ending itself because its parent is another one after a restore.

        False where it was so already: in a restored kernel, whose shepherd watches instead.
        """
        import ipykernel.parentpoller

        parentpoller: Any = ipykernel.parentpoller
        if isinstance(parentpoller.os, _FixedParent):
            return False
        parentpoller.os = _FixedParent(os.getppid())
        return True

    def heed_parent(self) -> None:
        """Have it end with its parent again."""
        import ipykernel.parentpoller

        parentpoller: Any = ipykernel.parentpoller
        parentpoller.os = os


class _FixedParent:
    """The `os` module with a parent that never changes."""

    def __init__(self, parent: int) -> None:
        self._parent = parent

    def getppid(self) -> int:
        return self._parent

    def __getattr__(self, name: str) -> Any:
        return getattr(os, name)


def _accepted() -> list[tuple[asyncio.Task[Any], Any]]:
    """Tasks that will serve a request after the running one, and their messages."""
    found: list[tuple[asyncio.Task[Any], Any]] = []
    for task in asyncio.all_tasks():
        frame = getattr(task.get_coro(), "cr_frame", None)
        if frame is None or task is asyncio.current_task():
            continue
        if frame.f_code.co_name == "shell_main":
            found.append((task, frame.f_locals["msg"]))
        elif frame.f_code.co_name == "run_in_context" and "coro" not in frame.f_locals:
            # Not begun: it will become the above.
            found += [(task, request) for request in frame.f_locals["args"]]
    return found


def _date(request: Sequence[bytes]) -> str:
    """When a request was made, as its header says; the header follows delimiter and signature."""
    header = request[list(request).index(b"<IDS|MSG>") + 2]
    return str(json.loads(header).get("date", ""))
