"""Who waits for an import has the processor: what nobody waits for stands back for a moment.

Threads of Python take turns, and there are more of ours than cores. A wheel that is waited for
would share them with all others on their way, and its import with their unpacking.
"""

from __future__ import annotations

import time

from zerostart_jupyter.install.gate import gate

MOST = 1.0  # seconds: who waits longer waits for the network, which others may use meanwhile
_QUIET = 0.1  # seconds without an import of what came, or is to come, after which that is over


class Precedence:
    """Its owner has a lock for `review()`; `given` and `give()` do without."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._awaited = False
        self._came = 0.0

    @property
    def given(self) -> bool:
        """Whether what nobody waits for is to stand back; `review()` takes it back."""
        return self._until is not None

    def give(self) -> None:
        """Somebody waits from now on."""
        self._until = time.monotonic() + MOST
        self._awaited = True

    def review(self, awaited: bool) -> None:
        """Take it back where nobody profits any more; `awaited` says whether there is something
        to be waited for. What has come is then imported, which gets its moment as well."""
        now = time.monotonic()
        if self._awaited and not awaited:
            self._came, self._until = now, now + MOST
        self._awaited = awaited
        over = not awaited and now - max(self._came, gate.looked) > _QUIET
        if self._until is not None and (over or now > self._until):
            self._until = None
