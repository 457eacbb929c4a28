"""The one progress model of all three engines: events, the hub that spreads them, operations.

An engine opens an `operation()`, reports items inside it, and knows nothing of who listens.
Listeners receive batches: each operation's first event and each item's newest, at most ten batches
a second while work is under way, and at once when an operation begins or ends.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from zerostart_jupyter.core.errors import Cancelled

INTERVAL = 0.1  # seconds between two batches to a listener
KEEP_FINISHED = 20  # operations a late joiner still sees after their end


class State(StrEnum):
    """Where an item or an operation stands."""

    WAITING = "waiting"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def final(self) -> bool:
        """True once nothing more will happen."""
        return self in (State.DONE, State.FAILED, State.CANCELLED)


@dataclass(frozen=True, slots=True)
class Event:
    """One step of one item; `item == ""` speaks of the operation as a whole.

    `done` and `total` are in `unit` ("bytes", "tensors", "steps"); `total` is None while it is
    unknown. `time` is seconds since the epoch.
    """

    operation: str
    kind: str
    title: str
    item: str
    state: State
    done: float
    total: float | None
    unit: str
    time: float
    error: str | None = None


Listener = Callable[[Sequence[Event]], None]


class Hub:
    """Keeps the first event of each operation and the last of each item, and spreads changes.

    A late joiner receives everything that is known. A listener that raises is dropped and
    logged; the work goes on. A listener may emit, subscribe and cancel. Safe to use from any
    thread, from signal handlers and finalizers, and in forked children, which begin empty.
    """

    def __init__(self, interval: float = INTERVAL) -> None:
        self._interval = interval
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._deliver = threading.RLock()  # one batch at a time, so that listeners see order
        self._delivering: int | None = None  # the thread that is telling listeners
        self._first: dict[str, Event] = {}
        self._last: dict[str, dict[str, Event]] = {}
        self._pending: dict[tuple[str, str | None], Event] = {}  # (operation, None): its first
        self._listeners: list[Listener] = []
        self._operations: dict[str, Operation] = {}
        self._pump: threading.Thread | None = None

    def emit(self, event: Event) -> None:
        """Take note of an event; listeners hear of it within the interval, of an end at once.

        What arrives after the end of its operation is dropped: a worker thread may be late.
        """
        now = event.item == "" and event.state is not State.RUNNING
        with self._lock:
            items = self._last.setdefault(event.operation, {})
            if "" in items and items[""].state.final:
                return
            first = self._first.setdefault(event.operation, event)
            items[event.item] = event
            self._pending[event.operation, None if first is event else event.item] = event
            # A listener that emits would otherwise call itself: the pump delivers that instead.
            now = now and self._delivering != threading.get_ident()
            if not now and self._listeners and self._pump is None:
                self._pump = threading.Thread(target=self._run, name="zerostart-hub", daemon=True)
                self._pump.start()
        if now:
            self.flush()

    def subscribe(self, listener: Listener) -> Callable[[], None]:
        """Add a listener, tell it what is known, and return the function that removes it."""
        with self._deliver:
            with self._lock:
                self._listeners.append(listener)
                known = self.known()
            if known:
                self._tell(listener, known)
        return lambda: self._drop(listener)

    def known(self) -> list[Event]:
        """The first event of every operation that is remembered, and the last of its items."""
        with self._lock:
            found = []
            for operation, items in list(self._last.items()):
                first = self._first[operation]
                found.append(first)
                found += [event for event in list(items.values()) if event is not first]
            return found

    def flush(self) -> None:
        """Deliver what is pending now."""
        with self._deliver:
            with self._lock:
                batch = list(self._pending.values())
                self._pending.clear()
                listeners = list(self._listeners)
                self._forget_old()
            outer, self._delivering = self._delivering, threading.get_ident()
            try:
                if batch:
                    for listener in listeners:
                        self._tell(listener, batch)
            finally:
                self._delivering = outer

    def cancel(self, operation: str) -> bool:
        """Ask a running operation to stop; False if there is none of that id."""
        with self._lock:
            found = self._operations.get(operation)
        if found is None:
            return False
        found.cancel()
        return True

    def _tell(self, listener: Listener, batch: Sequence[Event]) -> None:
        try:
            listener(batch)
        except Exception:
            _log("a progress listener failed and was dropped")
            self._drop(listener)

    def _drop(self, listener: Listener) -> None:
        with self._lock, contextlib.suppress(ValueError):
            self._listeners.remove(listener)

    def _forget_old(self) -> None:
        finished = [
            key for key, items in self._last.items() if "" in items and items[""].state.final
        ]
        for key in finished[:-KEEP_FINISHED]:
            del self._last[key]
            del self._first[key]

    def _run(self) -> None:
        # Lives only while there is something to say, so that an idle kernel has no extra thread.
        while True:
            time.sleep(self._interval)
            with self._lock:
                if not self._pending:
                    self._pump = None
                    return
            self.flush()

    def _enter(self, operation: Operation) -> None:
        with self._lock:
            self._operations[operation.id] = operation

    def _forget(self, operation: str) -> None:
        with self._lock:
            self._operations.pop(operation, None)
            self._first.pop(operation, None)
            self._last.pop(operation, None)
            for key in [key for key in self._pending if key[0] == operation]:
                del self._pending[key]

    def _leave(self, operation: Operation, state: State, error: str | None) -> None:
        with self._lock:
            self._operations.pop(operation.id, None)
            last = self._last.get(operation.id, {}).get("")
        done, total = (last.done, last.total) if last else (0.0, None)
        operation.update("", done, total, state=state, error=error)
        operation._ended = True


class Operation:
    """A piece of work the user can see and cancel; made by `operation()`.

    Safe to use from any thread.
    """

    def __init__(self, kind: str, title: str, unit: str, hub: Hub) -> None:
        self.id = f"{kind}-{os.urandom(4).hex()}"
        self.kind = kind
        self.title = title
        self.unit = unit
        self._hub = hub
        self._ended = False
        self._stop = threading.Event()
        self._lock = threading.RLock()
        self._on_cancel: list[Callable[[], None]] = []

    def update(
        self,
        item: str,
        done: float = 0,
        total: float | None = None,
        *,
        state: State = State.RUNNING,
        unit: str | None = None,
        error: str | None = None,
    ) -> None:
        """Say how far an item is (`""` is the whole operation); nothing after its end."""
        if self._ended:
            return
        self._hub.emit(
            Event(
                self.id,
                self.kind,
                self.title,
                item,
                state,
                done,
                total,
                unit or self.unit,
                time.time(),
                error,
            )
        )

    def cancel(self) -> None:
        """Ask the work to stop; it notices at its next `check()`. A second call does nothing."""
        with self._lock:
            self._stop.set()
            callbacks, self._on_cancel = self._on_cancel, []
        for callback in callbacks:
            try:
                callback()
            except Exception:
                _log(f"what {self.id} does on cancel failed")

    def forget(self) -> None:
        """Say nothing more of it, not even its end: in a process that woke up as another one."""
        self._ended = True
        self._hub._forget(self.id)

    def on_cancel(self, callback: Callable[[], None]) -> None:
        """Call this once when the user cancels: wakes a wait, closes a connection."""
        with self._lock:
            if not self._stop.is_set():
                self._on_cancel.append(callback)
                return
        callback()

    @property
    def cancelled(self) -> bool:
        """True once somebody asked the work to stop."""
        return self._stop.is_set()

    def check(self) -> None:
        """Raise Cancelled if somebody asked the work to stop."""
        if self._stop.is_set():
            raise Cancelled(
                f"{self.kind} of {self.title} was cancelled.",
                remedy="Run it again: what already arrived is kept.",
            )


_HUB = Hub()
# The child has no pump thread, its locks may be held by threads it has not got, and the work under
# way is its parent's.
os.register_at_fork(after_in_child=_HUB._begin)


def hub() -> Hub:
    """The hub of this process."""
    return _HUB


@contextlib.contextmanager
def operation(
    kind: str, title: str, *, unit: str = "bytes", hub: Hub | None = None, id: str | None = None
) -> Iterator[Operation]:
    """Open an operation: said to have begun, and to be done, failed or cancelled, in one place.

    `id` continues, in another process, an operation that began elsewhere.
    """
    where = hub or _HUB
    work = Operation(kind, title, unit, where)
    work.id = id or work.id
    where._enter(work)
    work.update("", state=State.WAITING)
    try:
        yield work
    except (Cancelled, KeyboardInterrupt):
        where._leave(work, State.CANCELLED, "cancelled")
        raise
    except BaseException as error:
        where._leave(work, State.FAILED, str(error) or type(error).__name__)
        raise
    else:
        where._leave(work, State.DONE, None)


def _log(what: str) -> None:
    import logging  # it takes as long as all else here, and is hardly ever needed

    logging.getLogger(__name__).exception(what)
