"""What else wants to know that this kernel woke up in another place; cheap to import."""

from __future__ import annotations

import contextlib
import logging
from collections.abc import Callable

log = logging.getLogger(__name__)

_callbacks: list[Callable[[], None]] = []
_returned: list[Callable[[], None]] = []
_silenced: list[Callable[[], None]] = []
_heard: list[Callable[[], None]] = []


def on_restored(callback: Callable[[], None]) -> Callable[[], None]:
    """Call this in every kernel that wakes up, once it knows its new connection file.

    Returns the function that takes it back.
    """
    return _joined(_callbacks, callback)


def on_returned(callback: Callable[[], None]) -> Callable[[], None]:
    """Call this after an undo, once the clients have come back; returns what takes it back."""
    return _joined(_returned, callback)


def on_silence(began: Callable[[], None], ended: Callable[[], None]) -> Callable[[], None]:
    """Call these before the kernel lets go of its sockets, and once it has some again.

    What is published in between is lost. Returns the function that takes both back.
    """
    leave_began, leave_ended = _joined(_silenced, began), _joined(_heard, ended)

    def leave() -> None:
        leave_began()
        leave_ended()

    return leave


def tell_restored() -> None:
    """Call them all, in the order in which they came; one that fails is logged."""
    _tell(_callbacks)


def tell_returned() -> None:
    """The same for those that have something to say to the clients."""
    _tell(_returned)


def tell_silenced() -> None:
    """Call those that must not publish anything from now on."""
    _tell(_silenced)


def tell_heard() -> None:
    """Call those again."""
    _tell(_heard)


def _joined(
    callbacks: list[Callable[[], None]], callback: Callable[[], None]
) -> Callable[[], None]:
    callbacks.append(callback)

    def leave() -> None:
        with contextlib.suppress(ValueError):
            callbacks.remove(callback)

    return leave


def _tell(callbacks: list[Callable[[], None]]) -> None:
    for callback in list(callbacks):
        try:
            callback()
        except Exception:
            log.exception("a callback for restored kernels failed")
