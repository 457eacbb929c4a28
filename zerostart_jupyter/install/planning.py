"""What an install would do, for `--dry-run`: the lock, what is missing of it, and how much."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core import wording
from zerostart_jupyter.core.events import operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.activation import ROOM
from zerostart_jupyter.install.decision import find_lock
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.lock import Lock, Locked
from zerostart_jupyter.install.requirements import Request


@dataclass(frozen=True, slots=True, repr=False)
class Plan:
    """A lock, the wheels of it that the store has not, and where the environment is or would be.

    `warm` says that the environment is there. `bytes` counts what is to be fetched, as far as the
    index tells sizes.
    """

    lock: Lock
    missing: tuple[Locked, ...]
    environment: Path
    warm: bool

    @property
    def bytes(self) -> int:
        """Bytes to fetch; wheels of unknown size count as none."""
        return sum(each.size or 0 for each in self.missing)

    def __repr__(self) -> str:
        return self.table()

    def table(self) -> str:
        """The plan as text, one wheel a line."""
        missing = set(self.missing)
        wide = max((len(each.name) for each in self.lock.packages), default=0)
        lines = []
        for each in self.lock.packages:
            state = "here" if self.warm or each not in missing else _size(each.size)
            lines.append(f"{each.name:<{wide}}  {each.version:<16} {state}")
        total = wording.counted(len(self.lock.packages), "wheel")
        unknown = any(each.size is None for each in self.missing)
        amount = f"{'at least ' if unknown else ''}{wording.size(self.bytes)}"
        fetched = f"{len(self.missing)} to fetch, {amount}"
        return "\n".join([*lines, f"{total}, {fetched}; environment {self.environment}"])


def plan(request: Request, *, settings: Settings | None = None, activate: bool = True) -> Plan:
    """What `install(request=request)` would do; nothing is fetched but the resolver's answer.

    With `activate` the answer respects what this process has imported, as an install into a
    live kernel does. Raises like `install()`.
    """
    settings = settings or Settings.read()
    store = Store(settings.cache)
    indexes = read_indexes(request.index)
    with operation("plan", request.title, unit="steps") as work:
        lock = find_lock(request, indexes, store, settings, work, live_kernel=activate)
    key = lock.environment_key()
    warm = store.get(ROOM, key) is not None
    missing = tuple(
        each for each in lock.packages if not warm and store.get("wheels", each.sha256) is None
    )
    return Plan(lock, missing, store.path(ROOM, key), warm)


def _size(count: int | None) -> str:
    return "size unknown" if count is None else wording.size(count)
