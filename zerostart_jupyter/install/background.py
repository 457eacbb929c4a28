"""The part of an install that runs behind the gate: one environment, one maker at a time."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from zerostart_jupyter.core.errors import Cancelled, ZerostartError
from zerostart_jupyter.core.events import Operation, State
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.activation import ROOM, landed
from zerostart_jupyter.install.closure import Closure
from zerostart_jupyter.install.destination import Destination
from zerostart_jupyter.install.environment import Environment, Rivals
from zerostart_jupyter.install.failures import as_error
from zerostart_jupyter.install.gate import Pending
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.pipeline import Pipeline
from zerostart_jupyter.install.requirements import Request

__all__ = ["Job", "as_error"]


class Job:
    """One install, ready to be run in a thread of its own."""

    def __init__(
        self,
        request: Request,
        lock: Lock,
        root: Path,
        store: Store,
        settings: Settings,
        indexes: Indexes,
        work: Operation,
        *,
        pipeline: Pipeline | None = None,
        environment: Environment | None = None,
        pending: type[Pending] = Pending,
    ) -> None:
        self._lock = lock
        self._root = root
        self._store = store
        self._work = work
        names = [each.name for each in lock.packages]
        closure = Closure(names, request.extras())
        self._environment = environment or Environment(
            root, copy=settings.no_shared_cache, rivals=Rivals(store, lock.packages)
        )
        self.pipeline = pipeline or Pipeline(store, settings, indexes, work)
        self.lock_name = f"build-{root.name}"
        self.told_in: Path | None = None  # where children look for what is told
        self.pending = pending(root, names, self.pipeline.demand, closure.of)
        if environment is None:
            self.pending.early = self._offer
        self.destination = Destination(lock, self._environment, self.pending, closure)

    def guess(self, shadowed: Mapping[str, ImportNames]) -> None:
        """Claim names before any wheel has told its own: a distribution's own name, and those
        of another version of it that is installed here and would be imported instead."""
        for each in self._lock.packages:
            self.pending.guess(each.name, ImportNames({each.name.replace("-", "_"): frozenset()}))
        for name, names in shadowed.items():
            self.pending.guess(name, names)

    def run(self) -> None:
        """Make the environment, or wait while another process makes it, and open the gate.

        Whatever goes wrong is raised here, and in every import that waits for it.
        """
        try:
            self._work.on_cancel(self._cancelled)
            self._make()
        except BaseException as error:
            self.pending.fail(as_error(error, self._store))
            raise as_error(error, self._store) from error
        finally:
            self.pipeline.close()

    def _make(self) -> None:
        key = self._root.name
        self.pending.watch(True)
        with self._store.lock(self.lock_name, check=self._work.check):
            self.pending.watch(False)
            present = self._have()
            about = self._about()
            if self._store.get(ROOM, key) is None:
                with self._store.build(ROOM, key, about):
                    self._environment.prepare()
                    if self.pending.missing:
                        self.pipeline.run(self.destination, present)

    def _have(self) -> list[str]:
        """Let in what an earlier process, or another one just now, has finished; its names."""
        present = [each for each in self._lock.packages if landed(self._root, each.name).exists()]
        for each in present:
            self._work.update(each.name, each.size or 0, each.size, state=State.DONE)
            self.pending.land(each.name)
        return [each.name for each in present]

    def _about(self) -> dict[str, object]:
        return {
            "distributions": [
                [each.name, each.version, each.sha256] for each in self._lock.packages
            ]
        }

    def _offer(self, name: str, files: Mapping[str, str]) -> None:
        """Make a distribution's programs at once: started early, they wait for their imports."""
        if "entry_points.txt" in files:
            (locked,) = (each for each in self._lock.packages if each.name == name)
            self._environment.offer(locked, files["entry_points.txt"].encode())

    def _cancelled(self) -> None:
        error: ZerostartError = Cancelled(
            f"The install of {self._work.title} was cancelled.",
            remedy="Run it again: what already arrived is kept.",
        )
        self.pipeline.halt(error)
