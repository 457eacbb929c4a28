"""The disk is put to work while a long header is parsed: otherwise it would have nothing to do."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Sequence

from zerostart_jupyter.load import pages

LONG = 256 << 10  # bytes of a header that take longer to parse than a thread to start
_STEP = 64 << 20  # bytes between two looks whether somebody else reads now; a page's multiple


class Ahead:
    """Brings files into the page cache from their beginnings, one after another, until `stop()`.

    Nothing depends on it: what fails here fails where it is read in earnest.
    """

    def __init__(self, descriptors: Sequence[int]) -> None:
        self._reached = dict.fromkeys(descriptors, 0)
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._run, name="zerostart-ahead", daemon=True)

    def start(self) -> None:
        """Begin, if a thread can be had and this kernel can do it."""
        if pages.can_populate():
            with contextlib.suppress(RuntimeError):
                self._thread.start()

    def brought(self, descriptor: int, at: int) -> bool:
        """Whether the byte at `at` of this file is in memory, or soon, because of this: nobody has
        touched it since it came from the disk."""
        return at < self._reached.get(descriptor, 0)

    def stop(self) -> None:
        """Read no further; who has begun to read for themselves is not held up."""
        self._stopped.set()

    def close(self) -> None:
        """Stop, and return when the files are left alone."""
        self.stop()
        if self._thread.ident is not None:
            self._thread.join()

    def _run(self) -> None:
        for descriptor in self._reached:
            with contextlib.suppress(OSError):
                self._bring(descriptor)

    def _bring(self, descriptor: int) -> None:
        size = os.fstat(descriptor).st_size
        for at in range(0, size, _STEP):
            count = min(_STEP, size - at)
            if self._stopped.is_set() or pages.cached(descriptor, at + count - 1):
                return
            self._reached[descriptor] = at + count
            pages.bring(descriptor, at, count)
