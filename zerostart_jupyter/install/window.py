"""What is known of each wheel on its way, and the memory that all of them may take."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from zerostart_jupyter.core.flocks import Flock
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install.intake import Intake, Opened
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.unpack import StoredWheel

_SHOWN = 0.5  # seconds between two signs of life


@dataclass(slots=True, eq=False)
class Coming:
    """A wheel on its way: `got` of `total` bytes, `held` of them in the window.

    A `foreseen` one was begun before a lock named it: `opened` and `have` wait for that. What the
    store has is not `asked` for. `claim` keeps other processes from fetching it as well.
    """

    locked: Locked
    order: int = 0
    foreseen: bool = False
    asked: bool = False
    opened: Opened | None = None
    have: StoredWheel | None = None
    claim: Flock | None = None
    intake: Intake | None = None
    got: int = 0
    held: int = 0
    total: int | None = None
    restarts: int = 0
    linking: bool = False
    shown: float = 0.0
    telling: threading.Lock = field(default_factory=threading.Lock)

    def begin_linking(self) -> None:
        """Say that its files take their places, once nobody tells of it any more: both write its
        programs."""
        with self.telling:
            self.linking = True

    def show_life(self) -> None:
        """Tell other processes that it is still being fetched: now and then, as it is a call of
        the system with a lock held for which many wait."""
        now = time.monotonic()
        if self.claim is not None and now - self.shown > _SHOWN:
            self.shown = now
            self.claim.touch()

    def unclaim(self) -> None:
        """Let others fetch it, or find it in the store."""
        claim, self.claim = self.claim, None
        if claim is not None:
            claim.release()


class Window:
    """Bytes of segments in memory. Not safe for threads: its owner has a lock."""

    def __init__(self, settings: Settings) -> None:
        self._most = settings.window_bytes
        self._least = settings.chunk_bytes
        self._held = 0

    @property
    def room(self) -> int:
        """Bytes that may come in; for one segment there is room whenever nothing is held."""
        return self._most - self._held if self._held else max(self._most, self._least)

    def hold(self, wheel: Coming, count: int) -> None:
        """Count bytes of a wheel in, or out if negative."""
        wheel.held += count
        self._held += count

    def release(self, wheel: Coming) -> None:
        """Count all bytes of a wheel out."""
        self.hold(wheel, -wheel.held)
