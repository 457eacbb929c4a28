"""`restore()`: the kernel that calls it gives its place to the one of the snapshot.

The snapshot is brought back beside the living kernel first, stopped. Whatever of that fails is an
ordinary exception in the cell. Only when it is there does the kernel let go of its sockets, and
then either becomes the shepherd by exec (same pid, same connection file) or, if it has a shepherd,
leaves the change-over to that.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.core.events import Operation, State, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import ports, procfs, restored, revival, tiers, trust, wire
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.catalog import Catalog
from zerostart_jupyter.snapshot.launch import command, environment
from zerostart_jupyter.snapshot.quiesce import Sockets

if TYPE_CHECKING:
    from zerostart_jupyter.snapshot.portable.restoring import Again

_CHANGE_OVER = 30.0  # seconds for our shepherd to end us


def restore(name: str, *, trust_it: bool = False, settings: Settings | None = None) -> Again:
    """Put the snapshot in place of this kernel; the cell is answered by the one that wakes up.

    A portable snapshot brings its names into this kernel, and returns. `trust_it` is the yes that
    a snapshot from elsewhere needs, once: it runs code. Raises SnapshotNotFound, SnapshotRefused,
    SnapshotCorrupt, CriuMissing, CriuFailed, NotPermitted or Cancelled with this kernel untouched.
    """
    settings = settings or Settings.read()
    kernel = LiveKernel.current()
    catalog = Catalog(settings)
    info = catalog.get(name)
    trust.require(catalog, info, trust_it)
    if info.tier == tiers.PORTABLE:
        from zerostart_jupyter.snapshot.portable import restoring

        return restoring.restore(info, kernel.kernel.shell, settings, fresh=False)
    channel = revival.shepherd()
    with operation("restore", name, unit="steps") as work:
        work.update("restoring")
        if channel is None:
            prepared = _Prepared.beside(kernel, name, settings, work)
        else:
            _have_prepared(channel, name, settings, work)
        work.update("restoring", state=State.DONE)
    # The shepherd goes on with the same operation: from here on nobody here could end it.
    if channel is None:
        _become(kernel, prepared, work.id)
    _give_way(kernel, channel, work.id)


class _Prepared:
    """A namespace below this kernel in which the snapshot's is stopped."""

    def __init__(self, snapshot: str, outer: subprocess.Popen[bytes], control: int) -> None:
        self.snapshot = snapshot
        self.outer = outer
        self.control = control
        self.pid = 0

    @classmethod
    def beside(
        cls, kernel: LiveKernel, name: str, settings: Settings, work: Operation
    ) -> _Prepared:
        outputs = kernel.outputs()
        order = restored.order(name, settings)
        ours, theirs = socket.socketpair()
        with order.lease, theirs:
            outer = subprocess.Popen(
                command(
                    "namespace", "--control", str(theirs.fileno()), "--parent", str(os.getpid())
                ),
                pass_fds=[theirs.fileno()],
                env=environment(),
                stdin=subprocess.DEVNULL,
                stdout=outputs["stdout"],
                stderr=outputs["stderr"],
            )
            theirs.close()
            found = cls(order.info.id, outer, ours.detach())
            try:
                found.wait(order.message, work.check)
            except BaseException:
                found.kill()
                raise
        return found

    def wait(self, order: wire.Message, check: Callable[[], None]) -> None:
        """Have it restore; raises what kept it from that."""
        try:
            wire.send(self.control, order)
            answer = wire.Reader(self.control).wait(check=check)
        except (EOFError, ConnectionError) as error:
            raise SnapshotError("The restore was killed.", remedy="Try again.") from error
        if answer["kind"] == "failed":
            raise wire.revive(answer)
        self.pid = answer["pid"]

    def kill(self) -> None:
        with contextlib.suppress(OSError):
            self.outer.kill()
        self.outer.wait()
        os.close(self.control)


def _become(kernel: LiveKernel, prepared: _Prepared, operation: str) -> NoReturn:
    """Exec the shepherd. The namespace stays our child, and everything else of us is gone."""
    with contextlib.ExitStack() as undo:
        undo.callback(prepared.kill)
        body: dict[str, Any] = {
            "outer": prepared.outer.pid,
            "control": prepared.control,
            "pid": prepared.pid,
            "revive": let_go(kernel, undo, operation),
        }
        held = [undo.enter_context(each).fileno() for each in ports.hold(kernel.connection())]
        body["held"] = held
        taken = os.memfd_create("zerostart-adopt", 0)
        undo.callback(os.close, taken)
        os.write(taken, json.dumps(body).encode())
        argv = command(
            *("shepherd", "--snapshot", prepared.snapshot, "--adopt", str(taken)),
            *("-f", kernel.connection_file),
        )
        env = environment()
        leave_children(prepared.outer.pid)
        hand_on({prepared.control, taken, *held}, kernel.outputs())
        os.execve(sys.executable, argv, env)


def _have_prepared(channel: wire.Channel, name: str, settings: Settings, work: Operation) -> None:
    """Have our shepherd bring the other back beside us."""
    order = restored.order(name, settings)
    order.lease.close()  # our shepherd takes its own
    channel.say({"kind": "restore", "snapshot": order.info.id})
    work.on_cancel(lambda: channel.say({"kind": "abandon"}))
    try:
        answer = channel.reader.wait()
    except KeyboardInterrupt:
        work.cancel()
        _abandoned(channel)
        raise
    if answer["kind"] == "failed":
        raise wire.revive(answer)
    if work.cancelled:
        _abandoned(channel)
    work.check()


def _abandoned(channel: wire.Channel) -> None:
    """Wait until our shepherd has none beside us: its next answer is then to the next question."""
    while channel.reader.wait()["kind"] != "failed":
        pass


def _give_way(kernel: LiveKernel, channel: wire.Channel, operation: str) -> NoReturn:
    """Have our shepherd put what it has prepared in our place."""
    with contextlib.ExitStack() as undo:
        channel.say({"kind": "leave", "revive": let_go(kernel, undo, operation)})
        time.sleep(_CHANGE_OVER)
        raise SnapshotError("The restore did not happen.", remedy="Restart the kernel.")


def let_go(
    kernel: LiveKernel, undo: contextlib.ExitStack, operation: str | None = None
) -> dict[str, Any]:
    """Quiesce, and say what the other kernel needs to answer in our place."""
    sockets = Sockets(kernel)
    undo.callback(sockets.take)
    sockets.let_go()
    identities, request = kernel.request()
    pending, drained = kernel.pending(), kernel.drain()
    undo.callback(kernel.enqueue, drained)
    return {
        "operation": operation,
        "identities": [each.hex() for each in identities],
        "request": json.loads(json.dumps(_plain(request), default=str)),
        "position": kernel.position(),
        "subscribers": sockets.subscribers,
        "waiting": [[part.hex() for part in each] for each in (*pending, *drained)],
    }


def _plain(request: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in request.items() if name != "buffers"} | {"buffers": []}


def leave_children(*but: int) -> None:
    """End our child processes, these excepted: they belong to a state that is no more."""
    for child in procfs.children(os.getpid()):
        if child not in but:
            for each in reversed(procfs.tree(child)):
                with contextlib.suppress(OSError):
                    os.kill(each, signal.SIGKILL)
            with contextlib.suppress(ChildProcessError):
                os.waitpid(child, 0)  # the shepherd would not know of it


def hand_on(kept: set[int], outputs: dict[str, int]) -> None:
    """Leave only these descriptors to the shepherd, and the launcher's outputs on 0 to 2."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if outputs[name] != number:
            os.dup2(outputs[name], number)
    for entry in os.listdir("/proc/self/fd"):
        if int(entry) > 2:
            with contextlib.suppress(OSError):
                os.set_inheritable(int(entry), int(entry) in kept)
