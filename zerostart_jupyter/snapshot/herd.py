"""What a shepherd does: keep one kernel, and for a moment a second one that takes its place."""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import socket
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import Cancelled, SnapshotError, ZerostartError
from zerostart_jupyter.snapshot import kerndat, ports, procfs, tiers, wire
from zerostart_jupyter.snapshot.apart import Apart
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog
from zerostart_jupyter.snapshot.launch import status_directory
from zerostart_jupyter.snapshot.restored import Restored, prepare

if TYPE_CHECKING:  # what is not needed to begin is imported while CRIU is at work
    from zerostart_jupyter.core.events import Operation
    from zerostart_jupyter.core.status import StatusFile
    from zerostart_jupyter.snapshot import listening

FORWARDED = (
    signal.SIGINT,
    signal.SIGTERM,
    signal.SIGHUP,
    signal.SIGQUIT,
    signal.SIGUSR1,
    signal.SIGUSR2,
)
_ENDING = (signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
_TICK = 1.0  # seconds between two looks whether our parent is still there
_FROM_US = ("JPY_SESSION_NAME", "JPY_PARENT_PID")  # what a kernel takes over from its shepherd


class Shepherd:
    """Stands for a kernel; `collect()` or `fail()` are its end."""

    def __init__(self, connection_file: Path, ready: int | None) -> None:
        self._file = connection_file
        self._ready = ready
        self._parent = os.getppid() if _has_parent() else None
        self._selector = selectors.DefaultSelector()
        self._kernel: Restored | None = None
        self._next: Restored | None = None
        self._progress = contextlib.ExitStack()
        self._work: Operation | None = None
        self._status: StatusFile | None = None
        self._signals, self._waker = socket.socketpair()
        self._pending: list[int] = []
        self._fresh = False  # whether to learn from how long this restore takes
        self._held: list[socket.socket] = []  # ports, until the kernel listens there
        self._offer: listening.Offer | None = None

    def begin(self, snapshot: str, apart: Apart) -> None:
        """Start restoring."""
        self._listen_to_signals()
        self._fresh = True
        restored = prepare(snapshot, apart=apart)
        self._hold_ports()
        self._kernel = self._watched(restored)
        self._open_progress(restored)

    def adopt(self, snapshot: str, descriptor: int) -> None:
        """Take over what the kernel we once were has restored."""
        self._listen_to_signals()
        taken = json.loads(os.pread(descriptor, 1 << 26, 0))
        restored = Restored.adopt(Catalog().get(snapshot), taken)
        self._held = [socket.socket(fileno=number) for number in taken["held"]]
        self._kernel = self._watched(restored)
        self._open_progress(restored)
        self._go_live(restored)

    def take(self, kernel: Restored, pid: int) -> None:
        """Have a kernel that runs already; `pid` is its id inside."""
        self._listen_to_signals()
        self._kernel = self._watched(kernel)
        kernel.found(pid)

    def watch(self) -> int:
        """Serve until the kernel has ended; returns its wait status."""
        while True:
            for key, _ in self._selector.select(_TICK):
                if key.data is None:
                    self._pass_signals_on()
                elif key.data is self._offer:
                    self._offer.serve()
                else:
                    ended = self._hear(key.data)
                    if ended is not None:
                        return ended
            if self._parent is not None and os.getppid() != self._parent:
                return signal.SIGKILL  # whoever started us is gone, as ipykernel's poller has it

    def collect(self) -> None:
        """Wait until nothing of the kernel is left."""
        for each in (self._kernel, self._next):
            if each is not None:
                each.kill()
        self._release_ports()
        if self._status is not None:
            self._status.close()

    def fail(self, error: ZerostartError) -> None:
        """Tell whoever waits that there will be no kernel."""
        self._progress.__exit__(type(error), error, None)
        if self._status is not None:  # the file stays: it says why
            from zerostart_jupyter.core.events import hub

            hub().flush()
            self._status.abandon()
            self._status = None
        self.collect()
        self._tell_ready(wire.describe(error))

    def _hear(self, restored: Restored) -> int | None:
        try:
            for message in restored.reader.take():
                ended = self._obey(restored, message)
                if ended is not None:
                    return ended
        except (EOFError, ConnectionError):
            self._unwatch(restored)
            if restored is self._kernel:
                self._check()
                return signal.SIGKILL
            self._refuse(restored, SnapshotError("The restore was killed.", remedy="Try again."))
        return None

    def _obey(self, restored: Restored, message: wire.Message) -> int | None:
        kind = message["kind"]
        if kind == "exited" and restored is self._kernel:
            return int(message["status"])
        if kind == "failed":
            if restored is self._kernel:
                self._check()
                raise wire.revive(message)
            self._refuse(restored, wire.revive(message))
        elif kind == "restored":
            restored.found(message["pid"])
            if restored is self._next:
                self._answer({"kind": "prepared"})
            else:
                self._go_live(restored)
        elif kind == "bound":
            self._release_ports()
            self._close_progress()
            self._tell_ready({"kind": "bound", "pid": os.getpid()})
            self._remember(restored)
        elif kind == "restore":
            self._prepare_another(message["snapshot"])
        elif kind == "abandon" and self._next is not None:
            self._refuse(self._next, Cancelled("The restore was cancelled.", remedy="Try again."))
        elif kind == "leave":
            self._change_over(message["revive"])
        elif kind == "clone":
            self._clone(message)
        return None

    # a kernel that asks to be replaced

    def _prepare_another(self, snapshot: str) -> None:
        try:
            self._next = self._watched(prepare(snapshot))
        except ZerostartError as error:
            self._answer(wire.describe(error))

    def _refuse(self, restored: Restored, error: ZerostartError) -> None:
        self._next = None
        self._unwatch(restored)
        restored.kill()
        self._answer(wire.describe(error))

    def _change_over(self, revive: dict[str, Any]) -> None:
        old, restored = self._kernel, self._next
        if old is None or restored is None:
            return
        self._unwatch(old)
        self._hold_ports()
        old.kill()
        restored.revive = revive
        self._kernel, self._next = restored, None
        self._open_progress(restored)
        self._go_live(restored)

    def _clone(self, message: wire.Message) -> None:
        from zerostart_jupyter.snapshot.clones import launch

        try:
            pid = launch(message["snapshot"], Path(message["connection_file"]))
        except ZerostartError as error:
            self._answer(wire.describe(error))
        else:
            self._answer({"kind": "cloned", "pid": pid})

    def _answer(self, message: wire.Message) -> None:
        if self._kernel is not None:
            self._kernel.tell(message)

    # a kernel that comes alive

    def _go_live(self, restored: Restored) -> None:
        try:
            connection = json.loads(self._file.read_text())
        except (OSError, ValueError) as error:
            raise SnapshotError(
                f"The connection file {self._file} cannot be read: {error}.",
                remedy="Start the kernel from Jupyter, which writes it.",
            ) from error
        restored.bring_gpu_back()
        restored.tell(
            {
                "kind": "live",
                "connection_file": str(self._file),
                "connection": connection,
                "listening": self._offer_sockets(connection),
                "saved": restored.saved,
                "environment": {name: os.environ[name] for name in _FROM_US if name in os.environ},
                "revive": restored.revive,
            }
        )
        if self._work is not None:
            from zerostart_jupyter.core.events import State

            self._work.update("restoring", state=State.DONE)
            self._work.update("connecting")

    def _open_progress(self, restored: Restored) -> None:
        """Show the restore in the panel: the kernel itself has nothing to say yet."""
        from zerostart_jupyter.core.events import operation
        from zerostart_jupyter.core.status import StatusFile

        if self._status is None:
            about = {"kernel": self._file.stem, "connection_file": str(self._file)}
            self._status = StatusFile(status_directory(self._file), "shepherd", about)
        self._work = self._progress.enter_context(
            operation(
                "restore",
                restored.saved["name"],
                unit="steps",
                id=(restored.revive or {}).get("operation"),
            )
        )
        self._work.on_cancel(restored.give_up)
        self._work.update("restoring")

    def _check(self) -> None:
        """Raise Cancelled if that is why the restore came to nothing."""
        if self._work is not None:
            self._work.check()

    def _close_progress(self) -> None:
        if self._work is not None:
            from zerostart_jupyter.core.events import State

            self._work.update("connecting", state=State.DONE)
        self._work = None
        self._progress.close()

    def _remember(self, restored: Restored) -> None:
        """Have the next guess of a restore's seconds know of this one's."""
        from zerostart_jupyter.snapshot import estimate

        fresh, self._fresh = self._fresh, False
        if fresh:
            store = Catalog().store
            entry = store.get(ROOM, restored.saved["id"])
            if entry is not None:
                # Of this process: Python's start is part of what a person waits for.
                estimate.remember(store, tiers.PROCESS, entry.about, procfs.age())
            if restored.criu:
                learning = (store, restored.criu)
                threading.Thread(target=kerndat.learn, args=learning, daemon=True).start()

    def _hold_ports(self) -> None:
        """Listen from now on; what is wrong with the file is told when the kernel needs it."""
        with contextlib.suppress(OSError, ValueError, KeyError):
            from zerostart_jupyter.snapshot import listening

            connection = json.loads(self._file.read_text())
            self._held = ports.hold(connection)
            listening.begin(self._held, connection)

    def _offer_sockets(self, connection: dict[str, Any]) -> str | None:
        """Where the kernel finds the sockets that listen for it."""
        from zerostart_jupyter.snapshot import listening

        sockets = listening.begin(self._held, connection)
        if not sockets:
            return None
        self._offer = listening.Offer(sockets)
        self._selector.register(self._offer, selectors.EVENT_READ, self._offer)
        return self._offer.path

    def _release_ports(self) -> None:
        if self._offer is not None:
            self._selector.unregister(self._offer)
            self._offer.close()
            self._offer = None
        for each in self._held:
            each.close()
        self._held = []

    def _tell_ready(self, message: wire.Message) -> None:
        if self._ready is not None:
            with contextlib.suppress(OSError):
                wire.send(self._ready, message)
                os.close(self._ready)
            self._ready = None

    # signals

    def _listen_to_signals(self) -> None:
        for each in (self._signals, self._waker):
            each.setblocking(False)
        for number in FORWARDED:
            signal.signal(number, lambda number, _: self._pending.append(number))
        signal.set_wakeup_fd(self._waker.fileno(), warn_on_full_buffer=False)
        self._selector.register(self._signals, selectors.EVENT_READ, None)

    def _pass_signals_on(self) -> None:
        with contextlib.suppress(BlockingIOError):
            self._signals.recv(4096)
        while self._pending:
            number = self._pending.pop(0)
            if self._kernel is not None and self._kernel.running:
                self._kernel.signal(number)
            elif number in _ENDING:
                raise SnapshotError("The restore was stopped.", remedy="Start it again.")

    def _watched(self, restored: Restored) -> Restored:
        self._selector.register(restored.reader, selectors.EVENT_READ, restored)
        return restored

    def _unwatch(self, restored: Restored) -> None:
        with contextlib.suppress(KeyError, ValueError):
            self._selector.unregister(restored.reader)


def _has_parent() -> bool:
    # Set by jupyter_client's launcher; a kernel that somebody started by hand has no such parent.
    return os.environ.get("JPY_PARENT_PID") == str(os.getppid())
