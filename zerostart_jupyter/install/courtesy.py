"""How many requests a server is asked to carry at once: fewer when it pushes back."""

from __future__ import annotations

import threading
from collections.abc import Callable

_GLANCE = 0.25  # seconds between two looks at whether waiting still makes sense


class Courtesy:
    """Requests to one host. No limit until it refuses one for being too many; then half of
    what it had, and one more for every round that went well. Safe to use from several threads."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._active = 0
        self._well = 0
        self.limit: int | None = None

    def enter(self, check: Callable[[], None]) -> None:
        """Return once a request may be sent; `check` is called while waiting, and may raise."""
        with self._changed:
            while self.limit is not None and self._active >= self.limit:
                check()
                self._changed.wait(_GLANCE)
            self._active += 1

    def leave(self, *, refused: bool = False) -> None:
        """Note that a request is over, and whether it was one too many."""
        with self._changed:
            if refused:
                # Not halved for each of those that were refused together.
                most = max(1, self._active // 2)
                self.limit, self._well = min(self.limit or most, most), 0
            elif self.limit is not None:
                self._well += 1
                if self._well >= self.limit:
                    self.limit, self._well = self.limit + 1, 0
            self._active -= 1
            self._changed.notify_all()
