"""The forked child that is an undo point: it waits, and may become the kernel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.snapshot import debugging, hooks, listening, memory, rebuilt, undone, wire
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.launch import die_with_parent
from zerostart_jupyter.snapshot.quiesce import Place, Sockets, places
from zerostart_jupyter.snapshot.wire import Message

_LOOK = 5.0  # seconds between two looks whether the kernel is still there
_ADOPTED = 10.0  # seconds for the kernel we were forked from to end
_STEP = 0.001
_OOM = Path("/proc/self/oom_score_adj")
_FIRST_TO_GO = "1000"  # proc(5): what the system ends first when memory runs out


@dataclass(frozen=True)
class Family:
    """Who is who: the kernel that forks, and its keeper (itself, without one)."""

    kernel: int
    keeper: int


def sleep(
    kernel: LiveKernel, inbox: int, answers: int, family: Family, offsets: Mapping[int, int]
) -> Message:
    """Wait to be woken; returns in the process that is the kernel from then on.

    In every other case this process ends. `offsets` are those of the open files.
    """
    try:
        return _sleep(kernel, inbox, answers, family, offsets)
    except BaseException as error:
        with contextlib.suppress(OSError):
            wire.send(answers, wire.describe(error))
        _end()


def _sleep(
    kernel: LiveKernel, inbox: int, answers: int, family: Family, offsets: Mapping[int, int]
) -> Message:
    # Out of the kernel's group: ipykernel ends that, and waits for it, when it is shut down; and
    # whoever is woken hears of signals from the keeper.
    os.setsid()
    interrupt = signal.signal(signal.SIGINT, signal.SIG_IGN)
    score = _mark(_FIRST_TO_GO)
    connection = kernel.connection()
    pipe = kernel.app.iopub_thread._pipe_port
    _leave_connections({*places(connection).values(), pipe})
    while (message := _wait(inbox, family))["kind"] != "wake":
        if message["kind"] == "measure":
            held = memory.held(message["kernel"], message["points"])
            wire.send(answers, {"kind": "measured", "bytes": held})
        else:
            from zerostart_jupyter.snapshot import promoted

            promoted.obey(kernel.kernel.shell, message, answers)
    offered = listening.take(message["listening"])
    rebuilt.rebuild(kernel)
    debugging.begin_anew(kernel)
    undone.reopen_history(kernel)
    wire.send(answers, {"kind": "ready"})
    if os.read(inbox, 1):
        _end()  # it was called off
    _adopted(family.keeper)
    for descriptor in (inbox, answers):
        os.close(descriptor)
    for descriptor, offset in offsets.items():
        # The files' positions are shared with the kernel that has moved them since.
        with contextlib.suppress(OSError):
            os.lseek(descriptor, offset, os.SEEK_SET)
    _mark(score)
    signal.signal(signal.SIGINT, interrupt)
    hooks.tell_restored()
    kernel.enqueue([[bytes.fromhex(part) for part in each] for each in message["waiting"]])
    kernel.serve([bytes.fromhex(part) for part in message["identities"]], message["request"])
    Sockets(kernel).take(connection, subscribers=message["subscribers"], listening=offered)
    rebuilt.note_descriptors(kernel)
    return message


def _wait(inbox: int, family: Family) -> Message:
    parents = {family.kernel, family.keeper}

    def check() -> None:
        if os.getppid() not in parents:
            _end()

    try:
        return wire.Reader(inbox).wait(pause=_LOOK, check=check)
    except EOFError:
        _end()


def _adopted(keeper: int) -> None:
    """Wait until we are the keeper's child, and end when it ends."""
    deadline = time.monotonic() + _ADOPTED
    while os.getppid() != keeper:
        if time.monotonic() > deadline:
            raise SnapshotError("The undo did not happen.", remedy="Restart the kernel.")
        time.sleep(_STEP)
    die_with_parent()
    if os.getppid() != keeper:
        _end()


def _mark(score: str) -> str:
    """Set how readily the system ends this process; returns what it was."""
    before = "0"
    with contextlib.suppress(OSError):
        before = _OOM.read_text().strip()
        _OOM.write_text(score)
    return before


def _leave_connections(own: Collection[Place]) -> None:
    """Close our copies of the kernel's sockets: they would keep its ports and its clients."""
    for entry in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            if not os.readlink(f"/proc/self/fd/{entry}").startswith("socket:"):
                continue
            with socket.socket(fileno=os.dup(int(entry))) as each:
                ends = [each.getsockname()]
                with contextlib.suppress(OSError):
                    ends.append(each.getpeername())
                inet = each.family in (socket.AF_INET, socket.AF_INET6)
            if any((end[1] if inet else end) in own for end in ends):
                os.close(int(entry))


def _end() -> NoReturn:
    os._exit(0)
