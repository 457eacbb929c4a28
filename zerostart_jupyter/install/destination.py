"""Where wheels go once a lock says which: an environment, and those who wait for imports of it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from zerostart_jupyter.install.closure import Closure
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.gate import Pending
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.lock import Lock, Locked
from zerostart_jupyter.install.unpack import StoredWheel


@dataclass(frozen=True, slots=True)
class Destination:
    """The environment of a lock; `pending` are its imports, `closure` tells who needs whom."""

    lock: Lock
    environment: Environment
    pending: Pending
    closure: Closure

    def tell(
        self,
        name: str,
        requires: Iterable[str],
        names: ImportNames,
        files: Mapping[str, str] | None = None,
    ) -> None:
        """Say what a distribution needs, what it is imported as, and its dist-info if known."""
        self.closure.learn(name, requires)
        self.pending.claim(name, names, dict(files) if files else None)

    def link(self, locked: Locked, have: StoredWheel, order: int) -> None:
        """Bring a wheel of the store into the environment. Raises EditedInStore."""
        self.environment.add(locked, have, order)
        self.environment.mark(locked)
