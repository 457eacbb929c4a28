"""What else wants to know that this kernel woke up in another place; cheap to import."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_callbacks: list[Callable[[], None]] = []


def on_restored(callback: Callable[[], None]) -> Callable[[], None]:
    """Call this in every kernel that wakes up, once it knows its new connection file.

    Returns the function that takes it back.
    """
    _callbacks.append(callback)

    def leave() -> None:
        with contextlib.suppress(ValueError):
            _callbacks.remove(callback)

    return leave


def tell_restored() -> None:
    """Call them all, in the order in which they came; one that fails is logged."""
    for callback in list(_callbacks):
        try:
            callback()
        except Exception:
            log.exception("a callback for restored kernels failed")
