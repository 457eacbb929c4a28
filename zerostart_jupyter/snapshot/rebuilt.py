"""ipykernel's sockets, streams, loops and threads made anew in a forked process.

The second half of the `adapter`: a fork keeps the main thread alone. Everything that lives in
another thread, or in libzmq, is dead in it and must not even be asked; the objects that notebooks
know (app, kernel, shell, `sys.stdout`, the running event loop with its tasks) stay the same.
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import threading
from collections import defaultdict
from typing import Any

from zerostart_jupyter.snapshot.adapter import LiveKernel

_KINDS = ("anon_inode:[eventfd]", "anon_inode:[eventpoll]", "socket:")
_LINGER = 1000  # ms, as ipykernel has it

# What is dead must not be collected: closing it would close descriptors that are others' by then.
_past: list[object] = []
_opened: dict[int, str] = {}  # what the last rebuilding opened, and where it led
_before: dict[int, str] = {}  # what was open then


def rebuild(kernel: LiveKernel) -> None:
    """Give the kernel everything a fork took from it; nothing is bound yet."""
    _close_last(kernel)
    _renew_loop(kernel)
    _bury(kernel)
    _before.clear()
    _before.update(_open())
    _renew_sockets(kernel.app)
    _renew_iopub(kernel.app)
    _renew_streams(kernel)
    for name in ("_stdout", "_stderr"):
        _renew_output(getattr(kernel.kernel, name), kernel.app.iopub_thread)
    kernel.app.session.pid = os.getpid()
    _listen(kernel)


def note_descriptors(kernel: LiveKernel) -> None:
    """Remember what was opened: the next process of this line will have no use for it."""
    kernel.flush()  # some are opened with the first output
    _opened.clear()
    _opened.update(_open().items() - _before.items())


def _open() -> dict[int, str]:
    """Descriptors of the kinds that loops and libzmq use, and where they lead."""
    found = {}
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            target = os.readlink(f"/proc/self/fd/{entry}")
            if target.startswith(_KINDS):
                found[int(entry)] = target
    return found


def _close_last(kernel: LiveKernel) -> None:
    """Close what is known to be dead: every generation would inherit that of all before."""
    import zmq

    present = _open()
    # Each thread that prints has a socket to iopub's; its descriptor may be asked for even now.
    pipes = kernel.app.iopub_thread._event_pipes.values()
    dead = {int(pipe.getsockopt(zmq.FD)) for pipe in pipes}
    dead |= {number for number, target in _opened.items() if present.get(number) == target}
    for number in dead & present.keys():
        os.close(number)


def _renew_loop(kernel: LiveKernel) -> None:
    """Give the running loop a selector and a self-pipe that no other process shares."""
    loop = kernel.kernel.io_loop.asyncio_loop
    asyncio._set_running_loop(loop)  # asyncio takes that of another process for none
    waiting = kernel.app.shell_channel_thread.manager._shell_channel_to_main
    stream, dead = waiting.to_stream, waiting.to_socket
    io_loop = stream.io_loop
    numbers = [number for number, (held, _) in io_loop.handlers.items() if held is dead]
    kept = [
        key
        for key in loop._selector.get_map().values()
        if key.fd not in (*numbers, loop._ssock.fileno())
    ]
    kind = type(loop._selector)
    loop._selector.close()
    loop._selector = kind()
    loop._ssock.close()
    loop._csock.close()
    loop._internal_fds -= 1
    loop._make_self_pipe()
    for key in kept:
        with contextlib.suppress(OSError, ValueError):
            loop._selector.register(key.fileobj, key.events, key.data)
    for number in numbers:
        del io_loop.handlers[number]
        io_loop.readers.discard(number)
    # Asking a socket of a dead context never returns.
    stream._handle_events = lambda *_: None
    loop._default_executor = None
    kernel.forget_waiting()


def _bury(kernel: LiveKernel) -> None:
    app, own = kernel.app, kernel.kernel
    _past.extend(
        [
            *(app.context, app.heartbeat, app.iopub_thread, app.iopub_thread.socket),
            list(app.iopub_thread._event_pipes.values()),
            *(app.control_thread, app.shell_channel_thread, app.shell_socket),
            *(app.control_socket, app.stdin_socket, app.debugpy_socket, app.debug_shell_socket),
            *(own.control_stream, own.shell_stream, own.debugpy_stream),
            getattr(own, "debugger", None),
        ]
    )


def _renew_sockets(app: Any) -> None:
    import zmq
    from ipykernel.control import ControlThread
    from ipykernel.shellchannel import ShellChannelThread

    app.context = zmq.Context()

    def made(kind: int) -> Any:
        each = app.context.socket(kind)
        each.linger = _LINGER
        if kind == zmq.ROUTER:
            each.router_handover = 1
        return each

    app.shell_socket = made(zmq.ROUTER)
    app.stdin_socket = made(zmq.ROUTER)
    app.control_socket = made(zmq.ROUTER)
    app.debugpy_socket = made(zmq.STREAM)
    app.debug_shell_socket = made(zmq.DEALER)
    app.control_thread = ControlThread(daemon=True)
    app.shell_channel_thread = ShellChannelThread(app.context, daemon=True)


def _renew_iopub(app: Any) -> None:
    import zmq
    from ipykernel.iostream import IOPubThread

    socket = app.context.socket(zmq.XPUB)
    socket.linger = _LINGER
    thread = IOPubThread(socket, pipe=True, session=app.session)
    inlet: Any = thread._pipe_in.socket
    inlet.unbind(inlet.LAST_ENDPOINT)
    # The object that displays, comms and the kernel hold leads to the new thread.
    app.iopub_socket.io_thread = thread
    thread.background_socket = app.iopub_socket
    app.iopub_thread = thread
    thread.start()


def _renew_streams(kernel: LiveKernel) -> None:
    from zmq.eventloop.zmqstream import ZMQStream

    app, own = kernel.app, kernel.kernel
    own.control_thread, own.shell_channel_thread = app.control_thread, app.shell_channel_thread
    own.iopub_thread, own.stdin_socket = app.iopub_thread, app.stdin_socket
    own.debug_shell_socket = app.debug_shell_socket
    own.shell_stream = ZMQStream(app.shell_socket, app.shell_channel_thread.io_loop)
    own.control_stream = ZMQStream(app.control_socket, app.control_thread.io_loop)
    own.debugpy_stream = ZMQStream(app.debugpy_socket, app.control_thread.io_loop)
    app.shell_channel_thread.shell_stream = own.shell_stream
    if getattr(own, "debugger", None) is not None:
        own.debugger = own.debugger_class(
            *(own.log, own.debugpy_stream, own._publish_debug_event, own.debug_shell_socket),
            *(own.session, own._kernel_modules),
            *(own.debug_just_my_code, own.filter_internal_frames),
        )


def _renew_output(stream: Any, thread: Any) -> None:
    """Have an OutStream publish through the new thread, and watch a pipe of its own."""
    if not hasattr(stream, "pub_thread"):
        return
    stream.pub_thread, stream._io_loop = thread, thread.io_loop
    stream._master_pid = os.getpid()
    stream._buffer_lock = threading.RLock()
    stream._buffers = defaultdict(io.StringIO)  # printed by the process we were forked from
    stream._flush_pending = stream._subprocess_flush_pending = False
    if stream._should_watch:
        outlet, inlet = os.pipe()
        os.dup2(inlet, stream._original_stdstream_fd)
        os.close(inlet)
        os.close(stream._fid)
        stream._fid = outlet
        stream.watch_fd_thread = threading.Thread(target=stream._watch_pipe_fd, daemon=True)
        stream.watch_fd_thread.start()


def _listen(kernel: LiveKernel) -> None:
    """As `Kernel.start()` does it, without the word that a kernel is starting."""
    app, own = kernel.app, kernel.kernel
    own._control_lock = asyncio.Lock()
    own.control_stream.on_recv(own.dispatch_control, copy=False)
    app.shell_channel_thread.manager.set_on_recv_callback(own.shell_main)
    own.shell_stream.on_recv(own.shell_channel_thread_main, copy=False)
    own.debugpy_stream.on_recv(own.dispatch_debugpy, copy=False)
    app.control_thread.start()
    app.shell_channel_thread.start()
    if getattr(own, "debugger", None) is not None:
        asyncio.run_coroutine_threadsafe(
            own.poll_stopped_queue(), app.control_thread.io_loop.asyncio_loop
        )
