"""How long a test waits for what is bound to come."""

from __future__ import annotations

import time
from collections.abc import Callable

PATIENCE = 60.0  # seconds; only waited for in full when something is broken


def eventually(holds: Callable[[], object]) -> None:
    """Wait until something holds that another thread or process is about to bring about."""
    deadline = time.monotonic() + PATIENCE
    while not holds():
        assert time.monotonic() < deadline, "it never came to hold"
        time.sleep(0.01)
