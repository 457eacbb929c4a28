"""A hub for tests that decide themselves when something is delivered."""

from __future__ import annotations

from zerostart_jupyter.core.events import Hub


class StillHub(Hub):
    """Delivers ends at once and everything else on `flush()`: its pump never comes."""

    def _run(self) -> None:
        return
