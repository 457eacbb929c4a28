"""One wheel's passage: looked up or opened, fetched, fed or packed, published, linked.

Each step is called by some thread with nothing held, and takes the lock where it looks at what all
wheels share. A wheel that is no longer the one of its name is let go of at the next step.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from zerostart_jupyter.core.errors import (
    DigestMismatch,
    NetworkError,
    StoreError,
    WheelRejected,
)
from zerostart_jupyter.core.events import Operation, State
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import packers
from zerostart_jupyter.install.assembly import Consumer
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.destination import Destination
from zerostart_jupyter.install.environment import EditedInStore
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.intake import Intake, Opened, Restart
from zerostart_jupyter.install.linker import Linker
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.packers import Packer
from zerostart_jupyter.install.precedence import Precedence
from zerostart_jupyter.install.segments import AWAITED, Agenda, Buffers, Segment
from zerostart_jupyter.install.source import source_of
from zerostart_jupyter.install.unpack import StoredWheel, stored
from zerostart_jupyter.install.window import Coming, Window

log = logging.getLogger(__name__)

_OPEN, _BODY = 0, 1
_RESTARTS = 2
_STALLED = 5.0  # seconds without a byte after which another process is not waited for
_SHARE = 8  # connections that share a wheel that was foreseen: there are few of those

Task = Callable[[], None]
Parcel = Callable[[Packer], None]


class Passage:
    """What all wheels of an install share, and the steps of one. `Pipeline` says which and when."""

    def __init__(
        self,
        store: Store,
        settings: Settings,
        indexes: Indexes,
        operation: Operation,
    ) -> None:
        self._store = store
        self._settings = settings
        self.connections = Connections(indexes, settings.http_timeout)
        self._operation = operation
        self._stop = threading.Event()
        self._destination: Destination | None = None
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._wheels: dict[str, Coming] = {}
        self._left: set[str] = set()
        self._elsewhere: list[Coming] = []
        self._fetches: Agenda[tuple[Coming, Intake | None, Segment | None]] = Agenda(lock)
        self._tasks: Agenda[tuple[Coming, Task]] = Agenda(lock)
        self._parcels: Agenda[tuple[Coming, Parcel]] = Agenda(lock)
        self._links: Agenda[tuple[Coming, Task]] = Agenda(lock)
        self._packers: list[Packer] = []
        self._linker: Linker | None = None
        self._buffers = Buffers(settings.chunk_bytes)
        self._window = Window(settings)
        self._demanded: list[str] = []
        self._precedence = Precedence()
        self._given_up: list[Intake] = []  # their threads may still be busy with them
        self._error: BaseException | None = None
        self.foresaw: Callable[[Locked, Opened], object] = lambda locked, opened: None
        self.downloaded = 0
        self._known_bytes = 0

        self._agendas: tuple[Agenda[Any], ...] = (
            *(self._fetches, self._tasks, self._parcels, self._links),
        )

    def _promote(self) -> None:
        for name in self._demanded:
            names = self._destination.closure.of(name) if self._destination else {name}
            for agenda in self._agendas:
                agenda.promote(names)

    def _finished(self) -> bool:
        return self._error is not None or (self._destination is not None and not self._left)

    def _wake(self) -> None:
        """Wake who has something to do, with the lock held."""
        finished = self._finished()
        for agenda in self._agendas:
            agenda.call(all_=finished)
        if finished or self._elsewhere or self._precedence.given:
            self._changed.notify_all()

    def _awaited(self) -> bool:
        """Whether somebody waits for what is still on its way."""
        closure = self._destination.closure if self._destination else None
        return closure is not None and any(
            not self._left.isdisjoint(closure.of(name)) for name in self._demanded
        )

    def _forget(self, wheel: Coming) -> None:
        name = wheel.locked.name
        if self._wheels.get(name) is wheel:
            del self._wheels[name]
            self._fetches.drop(name)
            self._known_bytes -= wheel.total or 0
            self._operation.update(name, wheel.got, wheel.total, state=State.CANCELLED)
        self._window.release(wheel)
        wheel.unclaim()
        intake, wheel.intake = wheel.intake, None
        if intake is not None:
            self._given_up.append(intake)

    def _begin(self, wheel: Coming) -> None:
        path = self._store.path("wheels", wheel.locked.sha256)
        if not path.exists():
            name = f"fetch-{wheel.locked.sha256}"
            wheel.claim = self._store.try_lock(name)
            if wheel.claim is not None:
                wheel.claim.touch()
            elif self._store.idle(name) < _STALLED:
                self._elsewhere.append(wheel)
                self._changed.notify_all()
                return
        if path.exists():
            wheel.unclaim()
            self._add(wheel, partial(self._look_up, wheel))
        else:
            self._ask_for(wheel)
        self._wake()

    def _look_elsewhere(self) -> None:
        """Begin what other processes have fetched by now, or have given up."""
        waiting, self._elsewhere = self._elsewhere, []
        for wheel in waiting:
            if self._wheels.get(wheel.locked.name) is wheel:
                self._begin(wheel)

    def _begin_anew(self, wheel: Coming) -> None:
        fresh = Coming(wheel.locked, wheel.order, total=wheel.locked.size)
        self._wheels[wheel.locked.name] = fresh
        self._begin(fresh)

    def _add(self, wheel: Coming, task: Task, weight: int = 1) -> None:
        self._tasks.add(wheel.locked.name, (wheel, task), weight=weight)

    def _ask_for(self, wheel: Coming, phase: int = _OPEN) -> None:
        wheel.asked = True
        size = wheel.locked.size or 0
        self._known_bytes += size
        self._fetches.add(wheel.locked.name, (wheel, None, None), weight=size, phase=phase)

    def _look_up(self, wheel: Coming) -> None:
        have = stored(self._store, wheel.locked.sha256)
        if have is not None:
            self._arrive(wheel, have)
            return
        with self._changed:
            self._ask_for(wheel)
            self._wake()

    def _open(self, wheel: Coming) -> None:
        locked, settings = wheel.locked, self._settings
        awaited = self._fetches.promoted(locked.name)
        intake = Intake(
            self._store,
            locked,
            source_of(self.connections, locked.url, self._stop),
            min(settings.chunk_bytes, AWAITED) if awaited else settings.chunk_bytes,
            lambda count: self._progress(wheel, count),
            self._buffers,
            packers.limit(settings) if self._packers else 0,
            spread=_SHARE if wheel.foreseen else 1,
        )
        with self._changed:
            if self._wheels.get(locked.name) is not wheel:
                return
            wheel.intake = intake
        opened = intake.open()
        assert intake.last is not None
        with self._changed:
            if wheel.intake is not intake:
                return
            wheel.opened = opened
            self._known_bytes += opened.total - (wheel.total or 0)
            wheel.total = opened.total
            for segment in intake.segments:
                job = (wheel, intake, segment)
                cost, weight = intake.cost(segment), len(segment)
                self._fetches.add(locked.name, job, weight=weight, cost=cost, phase=_BODY)
            self._promote()
            destination = self._destination
        if destination is not None:
            destination.tell(locked.name, opened.requires, opened.names, opened.files)
        else:
            self.foresaw(locked, opened)
        self._deliver(wheel, intake, *intake.last)

    def _fetch(self, wheel: Coming, intake: Intake, segment: Segment) -> None:
        self._deliver(wheel, intake, segment, intake.fetch(segment))

    def _deliver(self, wheel: Coming, intake: Intake, segment: Segment, data: memoryview) -> None:
        with self._changed:
            if wheel.intake is not intake:
                return
            if intake.whole:
                if parts := intake.gather(segment, data):
                    task = partial(self._pack, wheel, intake, parts)
                    weight = wheel.total or 1
                    self._parcels.add(wheel.locked.name, (wheel, task), weight=weight)
                    self._wake()
                return
            assert intake.assembly is not None
            for consumer in intake.assembly.arrive(segment, data):
                self._add(wheel, partial(self._feed, wheel, intake, consumer), len(segment))
            self._wake()

    def _feed(self, wheel: Coming, intake: Intake, consumer: Consumer) -> None:
        assembly = intake.assembly
        assert assembly is not None
        while True:
            with self._changed:
                if self._error is not None or wheel.intake is not intake:
                    return
                pieces = assembly.take(consumer)
                if not pieces:
                    return
            for piece, segment in pieces:
                try:
                    consumer.feed(piece)
                except WheelRejected:
                    if not intake.resumed:
                        raise
                    self._restart(wheel, intake)  # the bytes of an earlier process are at fault
                    return
                with self._changed:
                    if wheel.intake is not intake:
                        return
                    freed = assembly.fed(consumer, piece, segment)
                    whole = assembly.open == 0
                    if freed and intake.last is not None and segment is not intake.last[0]:
                        self._window.hold(wheel, -freed)
                        self._wake()
            if whole and consumer.left == 0:
                self._close(wheel, intake)
                return

    def _pack(
        self, wheel: Coming, intake: Intake, parts: Sequence[memoryview], packer: Packer
    ) -> None:
        locked = wheel.locked
        with self._changed:
            if wheel.intake is not intake:
                return
        wheel.begin_linking()
        self._start(packer)
        try:
            packed = packer.pack(locked, parts, wheel.order)
        except (DigestMismatch, WheelRejected):
            if not intake.resumed:
                raise
            self._restart(wheel, intake)
            return
        with self._changed:
            if wheel.intake is not intake:
                return
            wheel.intake = None
            self._window.release(wheel)
        intake.packed()
        wheel.unclaim()
        if packed.linked:
            assert self._destination is not None
            self._destination.tell(locked.name, packed.requires, packed.names)
            self._land(wheel)
        elif have := stored(self._store, locked.sha256):
            self._arrive(wheel, have)
        else:  # pruned already
            self._once_more(wheel)

    def _start(self, packer: Packer) -> None:
        """Start its process, unless that would be in the way of who waits: it can do without."""
        if not self._precedence.given:
            packer.start()

    def _close(self, wheel: Coming, intake: Intake) -> None:
        with self._changed:
            if wheel.intake is not intake:
                return
            wheel.intake = None
        try:
            have = intake.close()
        except Restart:
            with self._changed:
                wheel.intake = intake
            self._restart(wheel, intake)
            return
        except BaseException:
            intake.abandon(keep=False)
            raise
        wheel.unclaim()
        self._arrive(wheel, have)

    def _arrive(self, wheel: Coming, have: StoredWheel) -> None:
        with self._changed:
            if self._wheels.get(wheel.locked.name) is not wheel:
                return
            if self._destination is None:
                wheel.have = have
                return
        self._destination.tell(wheel.locked.name, have.requires, have.names)
        with self._changed:
            self._links.add(wheel.locked.name, (wheel, partial(self._link, wheel, have)))
            self._wake()

    def _link(self, wheel: Coming, have: StoredWheel) -> None:
        assert self._destination is not None
        wheel.begin_linking()
        try:
            self._destination.link(wheel.locked, have, wheel.order)
        except EditedInStore as edited:
            log.warning("%s was edited in the cache, or pruned, and is fetched again", edited)
            removed = self._store.remove("wheels", wheel.locked.sha256)
            if not removed and self._store.get("wheels", wheel.locked.sha256) is not None:
                raise StoreError(
                    f"{edited} was edited in the cache.",
                    remedy="Run `zerostart cache prune` when no kernel uses it.",
                ) from None
            self._once_more(wheel)
            return
        self._land(wheel)

    def _once_more(self, wheel: Coming) -> None:
        with self._changed:
            if self._wheels.get(wheel.locked.name) is wheel:
                self._begin_anew(wheel)

    def _land(self, wheel: Coming) -> None:
        locked = wheel.locked
        assert self._destination is not None
        self._operation.update(locked.name, wheel.got, wheel.total, state=State.DONE)
        self._destination.pending.land(locked.name)
        with self._changed:
            self._left.discard(locked.name)
            self._promote()
            self._wake()

    def _restart(self, wheel: Coming, intake: Intake | None) -> None:
        with self._changed:
            if intake is not None and wheel.intake is not intake:
                return  # another thread was first
            old, wheel.intake = wheel.intake, None
            wheel.restarts += 1
            wheel.got = 0
            self._fetches.drop(wheel.locked.name)
            self._window.release(wheel)
            if old is not None:
                self._given_up.append(old)
        if old is not None:
            old.forget()
        if wheel.restarts > _RESTARTS:
            raise NetworkError(
                f"{wheel.locked.wheel} changed on the server while it was fetched.",
                remedy="Run it again, or ask the index what it serves.",
            )
        with self._changed:
            self._fetches.add(wheel.locked.name, (wheel, None, None), weight=0, phase=_OPEN)
            self._wake()

    def _progress(self, wheel: Coming, count: int) -> None:
        with self._changed:
            wheel.got += count
            self.downloaded += count
            got, total = wheel.got, wheel.total
            done, known = self.downloaded, self._known_bytes
            current = self._wheels.get(wheel.locked.name) is wheel
            wheel.show_life()
        if current:
            self._operation.update(wheel.locked.name, got, total)
        # An index need not tell sizes: no total is known before a wheel's first answer.
        self._operation.update("", done, known if done <= known else None)
