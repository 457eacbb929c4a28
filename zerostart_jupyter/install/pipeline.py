"""The line that ties it together: which wheels, in what order, and how it ends.

Four kinds of threads share one lock and four agendas. Fetchers take wheels to open and segments
to fetch, within a window of bytes; workers feed digests and runs of large wheels; one links what is
whole, or two if the store had many; packers hand small wheels to processes of their own. What is
demanded comes first in each.

Wheels that are foreseen come as far as the store. Whatever becomes of them is nobody's business
until a lock names them; then they go on from where they are.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from functools import partial
from typing import Any

from zerostart_jupyter.core.errors import DigestMismatch, WheelRejected
from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import POLL, Store
from zerostart_jupyter.install import linker, packers
from zerostart_jupyter.install.crew import Crew
from zerostart_jupyter.install.destination import Destination
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.intake import Opened, Restart
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.packers import Packer
from zerostart_jupyter.install.passage import Passage, Task
from zerostart_jupyter.install.retries import Stopped
from zerostart_jupyter.install.segments import Agenda
from zerostart_jupyter.install.window import Coming

log = logging.getLogger(__name__)


class Pipeline(Passage):
    """Brings wheels into the store, and those of a lock from there into an environment."""

    def __init__(
        self, store: Store, settings: Settings, indexes: Indexes, operation: Operation
    ) -> None:
        super().__init__(store, settings, indexes, operation)
        self._crew = Crew(self.halt)
        self._begun = False

    def foresee(self, locked: Locked) -> None:
        """Begin to bring a wheel that a lock will probably name, as far as the store.

        If that fails, it is as if it had never been said. `foresaw` is called with each that was
        opened. Does nothing once there is a destination.
        """
        with self._changed:
            if self._destination or self._error or locked.name in self._wheels:
                return
            wheel = self._wheels[locked.name] = Coming(locked, foreseen=True, total=locked.size)
            self._begin(wheel)
            self._start_packers(None)
            self._start_crew()

    def run(self, destination: Destination, present: Collection[str] = ()) -> None:
        """Bring all of a lock but what is `present`; returns when it is linked, raises the first
        error otherwise."""
        try:
            with self._changed:
                known = self._settle(destination, present)
            for wheel, opened in known:
                with wheel.telling:
                    if not wheel.linking:
                        locked = wheel.locked
                        destination.tell(locked.name, opened.requires, opened.names, opened.files)
            with self._changed:
                if self._error is None:
                    self._start_crew()
                self._promote()
                while self._left and self._error is None:
                    watched = self._elsewhere or self._precedence.given
                    self._changed.wait(POLL if watched else None)
                    self._look_elsewhere()
                    self._look_at_waits()
        finally:
            self.close()
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """End what is still under way; a second call does nothing."""
        with self._changed:
            if self._destination is None or self._left:
                self._error = self._error or Stopped()
            self._stop.set()
            self._wake()
        if self._error is not None:
            self.connections.abort()
        self._crew.join()
        self.connections.close()
        for packer in self._packers:
            packer.finish()  # all of them at once
        for packer in self._packers:
            packer.close()
        if self._linker is not None:
            self._linker.close()
        keep = not isinstance(self._error, WheelRejected | DigestMismatch)
        given_up, self._given_up = self._given_up, []
        for intake in given_up:
            intake.abandon(keep=False)
        for wheel in self._wheels.values():
            wheel.unclaim()
            intake_, wheel.intake = wheel.intake, None
            if intake_ is not None:
                intake_.abandon(keep=keep)

    def halt(self, error: BaseException) -> None:
        """End the work from outside, with this error; a later call does nothing."""
        with self._changed:
            self._error = self._error or error
            self._stop.set()
            self._wake()
        self.connections.abort()  # nobody waits for a server that says nothing

    def demand(self, name: str) -> None:
        """Bring this distribution and all it needs before everything else."""
        self._demanded.append(name)
        self._precedence.give()  # before the lock: threads that are just being started shall see it
        with self._changed:
            self._promote()
            self._wake()

    def _settle(
        self, destination: Destination, present: Collection[str]
    ) -> list[tuple[Coming, Opened]]:
        """Sort out what was foreseen; returns what has been opened of it."""
        self._destination = destination
        packages = {
            each.name: (order, each)
            for order, each in enumerate(destination.lock.packages)
            if each.name not in present
        }
        for name, wheel in list(self._wheels.items()):
            if name not in packages or packages[name][1].sha256 != wheel.locked.sha256:
                self._forget(wheel)
        self._left = set(packages)
        known = []
        for name, (order, locked) in packages.items():
            wheel = self._wheels.get(name) or Coming(locked, total=locked.size)
            wheel.order = order
            if name not in self._wheels:
                self._wheels[name] = wheel
                self._begin(wheel)
            elif wheel.have is not None:
                self._add(wheel, partial(self._arrive, wheel, wheel.have))
            elif wheel.opened is not None:
                known.append((wheel, wheel.opened))
        for packer in self._packers:
            packer.link_into(destination.environment)
        self._start_packers(destination.environment)
        self._start_linker(destination.environment)
        self._wake()
        return known

    def _start_crew(self) -> None:
        if not self._begun:
            self._begun = True
            fetchers = self._settings.parallel_downloads
            self._crew.add("zerostart-fetch", [self._fetch_one] * fetchers)
            work = partial(self._carry_out, self._tasks)
            self._crew.add("zerostart-work", [work] * self._settings.extract_threads)
            self._crew.add("zerostart-link", [partial(self._carry_out, self._links)])
        self._crew.start()

    def _start_packers(self, environment: Environment | None) -> None:
        if not self._packers:
            most = packers.limit(self._settings)
            small = sum(
                wheel.asked and wheel.have is None and (wheel.total or 0) <= most
                for wheel in self._wheels.values()
            )
            self._packers = packers.hire(self._store, environment, self._settings, small)
            self._crew.add(
                "zerostart-pack", [partial(self._pack_one, each) for each in self._packers]
            )

    def _start_linker(self, environment: Environment) -> None:
        """One more thread that links, if it has a process for that: each link gives Python's lock
        away, and two threads of one process take half as long again."""
        there = sum(not wheel.asked for wheel in self._wheels.values())
        if environment.shared and there >= linker.WORTHWHILE:
            self._linker = linker.Linker()
            self._linker.start()
            environment.link = self._linker.link
            self._crew.add("zerostart-link", [partial(self._carry_out, self._links)])

    # -- threads

    def _fetch_one(self) -> bool:
        with self._changed:
            while (
                job := self._fetches.take(self._window.room, awaited=self._precedence.given)
            ) is None or self._finished():
                if self._finished():
                    return False
                self._fetches.called.wait()
            wheel, intake, segment = job[1]
            if segment is not None:
                assert intake is not None
                self._window.hold(wheel, intake.cost(segment))
        try:
            if intake is None or segment is None:
                self._attempt(wheel, partial(self._open, wheel))
            else:
                self._attempt(wheel, partial(self._fetch, wheel, intake, segment))
        except Restart:
            self._restart(wheel, intake)
        return True

    def _pack_one(self, packer: Packer) -> bool:
        self._start(packer)
        return self._carry_out(self._parcels, packer)

    def _carry_out(self, agenda: Agenda[tuple[Coming, Any]], *given: Packer) -> bool:
        with self._changed:
            while (job := agenda.take(awaited=self._precedence.given)) is None:
                if self._finished():
                    return False
                agenda.called.wait()
        wheel, task = job[1]
        self._attempt(wheel, partial(task, *given))
        return True

    def _look_at_waits(self) -> None:
        given = self._precedence.given
        self._precedence.review(self._awaited())
        if given and not self._precedence.given:
            self._wake()

    def _attempt(self, wheel: Coming, work: Task) -> None:
        try:
            work()
        except (Stopped, Restart):
            raise
        except Exception as error:
            if not wheel.foreseen:
                raise
            log.debug("%s was foreseen, and failed: %s", wheel.locked.wheel, error)
            with self._changed:
                current = self._wheels.get(wheel.locked.name) is wheel
                self._forget(wheel)
                if current and self._destination is not None:
                    self._begin_anew(wheel)
