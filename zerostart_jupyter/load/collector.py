"""The garbage collector, told to wait while objects are made that all stay.

A mixture of experts has tens of thousands of tensors, each with a few objects around it, and the
collector walks over all of them again and again as they become more: half of the time of a load
from memory.
"""

from __future__ import annotations

import contextlib
import gc
import threading
from collections.abc import Iterator

_lock = threading.Lock()
_pausing = 0
_was_on = False


@contextlib.contextmanager
def paused() -> Iterator[None]:
    """Collect nothing meanwhile; several may pause at once, and the last one puts it back."""
    global _pausing, _was_on
    with _lock:
        if _pausing == 0:
            _was_on = gc.isenabled()
            gc.disable()
        _pausing += 1
    try:
        yield
    finally:
        with _lock:
            _pausing -= 1
            if _pausing == 0 and _was_on:
                gc.enable()
