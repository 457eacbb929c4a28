"""The line that ties it together: fetch, feed, publish, link, open the gate.

Three kinds of threads share one lock and three agendas. Fetchers take wheels to open and segments
to fetch, within a window of bytes; workers feed digests and runs of large wheels, and link what is
whole; packers hand small wheels to processes of their own. What is demanded comes first in each.
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
from zerostart_jupyter.install.closure import Closure
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.crew import Crew
from zerostart_jupyter.install.environment import EditedInStore, Environment
from zerostart_jupyter.install.gate import Pending
from zerostart_jupyter.install.intake import Intake, Restart
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.packers import Packer
from zerostart_jupyter.install.retries import Stopped
from zerostart_jupyter.install.segments import AWAITED, Agenda, Buffers, Segment
from zerostart_jupyter.install.source import source_of
from zerostart_jupyter.install.unpack import StoredWheel, stored
from zerostart_jupyter.install.window import Coming, Window

log = logging.getLogger(__name__)

_OPEN, _BODY = 0, 1
_RESTARTS = 2

Task = Callable[[], None]
Parcel = Callable[[Packer], None]


class Pipeline:
    """Brings the wheels of a lock into an environment."""

    def __init__(
        self,
        lock: Lock,
        environment: Environment,
        store: Store,
        settings: Settings,
        connections: Connections,
        operation: Operation,
        pending: Pending,
        closure: Closure,
        stop: threading.Event,
    ) -> None:
        self._environment = environment
        self._store = store
        self._settings = settings
        self._connections = connections
        self._operation = operation
        self._pending = pending
        self._closure = closure
        self._stop = stop
        self._changed = threading.Condition()
        self._wheels = {
            locked.name: Coming(locked, order, total=locked.size)
            for order, locked in enumerate(lock.packages)
        }
        self._left = set(self._wheels)
        self._fetches: Agenda[tuple[Intake | None, Segment | None]] = Agenda()
        self._tasks: Agenda[Task] = Agenda()
        self._parcels: Agenda[Parcel] = Agenda()
        self._crew = Crew(self.halt)
        self._packers: list[Packer] = []
        self._buffers = Buffers(settings.chunk_bytes)
        self._window = Window(settings)
        self._demanded: list[str] = []
        self._given_up: list[Intake] = []  # their threads may still be busy with them
        self._error: BaseException | None = None
        self.downloaded = 0
        self._known_bytes = 0

    def run(self) -> None:
        """Bring everything; returns when all is linked, raises the first error otherwise."""
        with self._changed:
            if self._error is not None:
                raise self._error
            for wheel in self._wheels.values():
                self._begin(wheel)
            absent = len(self._fetches)
        self._packers = packers.start(self._store, self._environment, self._settings, absent)
        self._crew.add("zerostart-fetch", [self._fetch_one] * self._settings.parallel_downloads)
        work = partial(self._carry_out, self._tasks)
        self._crew.add("zerostart-work", [work] * self._settings.extract_threads)
        pack = partial(self._carry_out, self._parcels)
        self._crew.add("zerostart-pack", [partial(pack, each) for each in self._packers])
        try:
            self._crew.start()
            with self._changed:
                while self._left and self._error is None:
                    self._changed.wait()
        finally:
            with self._changed:
                self._error = self._error or (Stopped() if self._left else None)
                self._stop.set()
                self._changed.notify_all()
            self._crew.join()
            for packer in self._packers:
                packer.close()
            self._clean_up()
        if self._error is not None:
            raise self._error

    def _clean_up(self) -> None:
        keep = not isinstance(self._error, WheelRejected | DigestMismatch)
        for intake in self._given_up:
            intake.abandon(keep=False)
        for wheel in self._wheels.values():
            if wheel.intake is not None:
                wheel.intake.abandon(keep=keep)

    def skip(self, name: str) -> None:
        """Leave a distribution out: it is there already. Before `run()` only."""
        del self._wheels[name]
        self._left.discard(name)

    @property
    def left(self) -> bool:
        """True while there is something to bring."""
        return bool(self._left)

    def halt(self, error: BaseException) -> None:
        """End the work from outside, with this error; a later call does nothing."""
        with self._changed:
            self._error = self._error or error
            self._stop.set()
            self._changed.notify_all()
        self._connections.abort()  # nobody waits for a server that says nothing

    def demand(self, name: str) -> None:
        """Bring this distribution and all it needs before everything else."""
        with self._changed:
            self._demanded.append(name)
            self._promote()
            self._changed.notify_all()

    def _promote(self) -> None:
        for name in self._demanded:
            names = self._closure.of(name)
            for agenda in (self._fetches, self._tasks, self._parcels):
                agenda.promote(names)

    # -- threads

    def _fetch_one(self) -> bool:
        with self._changed:
            while (job := self._fetches.take(self._window.room)) is None or self._finished():
                if self._finished():
                    return False
                self._changed.wait()
            name, (intake, segment) = job
            wheel = self._wheels[name]
            if segment is not None:
                assert intake is not None
                self._window.hold(wheel, intake.cost(segment))
        try:
            if intake is None or segment is None:
                self._open(wheel)
            else:
                self._deliver(wheel, intake, segment, intake.fetch(segment))
        except Restart:
            self._restart(wheel, intake)
        return True

    def _carry_out(self, agenda: Agenda[Any], *given: Packer) -> bool:
        with self._changed:
            while (job := agenda.take()) is None:
                if self._finished():
                    return False
                self._changed.wait()
        job[1](*given)
        return True

    def _finished(self) -> bool:
        return self._error is not None or not self._left

    # -- one wheel

    def _begin(self, wheel: Coming) -> None:
        if self._store.path("wheels", wheel.locked.sha256).exists():
            self._tasks.add(wheel.locked.name, partial(self._look_up, wheel))
        else:
            self._ask_for(wheel)
        self._changed.notify_all()

    def _ask_for(self, wheel: Coming) -> None:
        self._known_bytes += wheel.locked.size or 0
        self._fetches.add(
            wheel.locked.name, (None, None), weight=wheel.locked.size or 0, phase=_OPEN
        )

    def _look_up(self, wheel: Coming) -> None:
        have = stored(self._store, wheel.locked.sha256)
        if have is None:
            with self._changed:
                self._ask_for(wheel)
                self._changed.notify_all()
            return
        self._closure.learn(wheel.locked.name, have.metadata().requires)
        self._pending.claim(wheel.locked.name, have.names)
        self._link(wheel, have)

    def _open(self, wheel: Coming) -> None:
        locked = wheel.locked
        chunk = self._settings.chunk_bytes
        if self._fetches.promoted(locked.name):
            chunk = min(chunk, AWAITED)
        intake = Intake(
            self._store,
            locked,
            source_of(self._connections, locked.url, self._stop),
            chunk,
            lambda count: self._progress(wheel, count),
            self._buffers,
            packers.limit(self._settings) if self._packers else 0,
        )
        with self._changed:
            wheel.intake = intake
        opened = intake.open()
        self._closure.learn(locked.name, opened.requires)
        self._pending.claim(locked.name, opened.names, opened.files)
        assert intake.last is not None
        total = intake.last[0].stop
        with self._changed:
            self._known_bytes += total - (wheel.total or 0)
            wheel.total = total
            for segment in intake.segments:
                job = (intake, segment)
                cost, weight = intake.cost(segment), len(segment)
                self._fetches.add(locked.name, job, weight=weight, cost=cost, phase=_BODY)
            self._promote()
        self._deliver(wheel, intake, *intake.last)

    def _deliver(self, wheel: Coming, intake: Intake, segment: Segment, data: memoryview) -> None:
        with self._changed:
            if wheel.intake is not intake:
                return
            if intake.whole:
                if parts := intake.gather(segment, data):
                    task = partial(self._pack, wheel, intake, parts)
                    self._parcels.add(wheel.locked.name, task, weight=wheel.total or 1)
                    self._changed.notify_all()
                return
            assert intake.assembly is not None
            for consumer in intake.assembly.arrive(segment, data):
                feed = partial(self._feed, wheel, intake, consumer)
                self._tasks.add(wheel.locked.name, feed, weight=len(segment))
            self._changed.notify_all()

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
                        self._changed.notify_all()
            if whole and consumer.left == 0:
                self._close(wheel, intake)
                return

    def _pack(
        self, wheel: Coming, intake: Intake, parts: Sequence[memoryview], packer: Packer
    ) -> None:
        locked = wheel.locked
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
        self._closure.learn(locked.name, packed.requires)
        self._pending.claim(locked.name, packed.names)
        if packer.links:
            self._land(wheel)
        elif have := stored(self._store, locked.sha256):
            self._link(wheel, have)

    def _close(self, wheel: Coming, intake: Intake) -> None:
        with self._changed:
            if wheel.intake is not intake:
                return
            wheel.intake = None
        try:
            have, metadata = intake.close()
        except Restart:
            with self._changed:
                wheel.intake = intake
            self._restart(wheel, intake)
            return
        except BaseException:
            intake.abandon(keep=False)
            raise
        self._closure.learn(wheel.locked.name, metadata.requires)
        self._link(wheel, have)

    def _link(self, wheel: Coming, have: StoredWheel) -> None:
        locked = wheel.locked
        try:
            self._environment.add(locked, have, wheel.order)
        except EditedInStore as edited:
            log.warning("%s was edited in the cache and is fetched again", edited)
            if not self._store.remove("wheels", locked.sha256):
                raise StoreError(
                    f"{edited} was edited in the cache.",
                    remedy="Run `zerostart cache prune` when no kernel uses it.",
                ) from None
            with self._changed:
                self._begin(wheel)
            return
        self._environment.mark(locked)
        self._land(wheel)

    def _land(self, wheel: Coming) -> None:
        locked = wheel.locked
        self._operation.update(locked.name, wheel.got, wheel.total, state=State.DONE)
        self._pending.land(locked.name)
        with self._changed:
            self._left.discard(locked.name)
            self._promote()
            self._changed.notify_all()

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
            self._fetches.add(wheel.locked.name, (None, None), weight=0, phase=_OPEN)
            self._changed.notify_all()

    def _progress(self, wheel: Coming, count: int) -> None:
        with self._changed:
            wheel.got += count
            self.downloaded += count
            got, total = wheel.got, wheel.total
            done, known = self.downloaded, self._known_bytes
        self._operation.update(wheel.locked.name, got, total)
        self._operation.update("", done, max(done, known))
