"""Writing behind the back of who inflates: a large file's content is written by a second thread.

Inflating and writing each take a core's time, and both leave the interpreter's lock free; done one
after the other, a large member takes the sum.
"""

from __future__ import annotations

import os
import queue
import threading

WORTHWHILE = 16 << 20  # bytes of a file from which on it has a thread of its own
_WAITING = 8  # contents that may wait to be written; each of about a megabyte


class Behind:
    """Writes to one descriptor, in order. What goes wrong is raised by the next call."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._contents: queue.Queue[bytes | memoryview | None] = queue.Queue(_WAITING)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, name="zerostart-write", daemon=True)
        self._thread.start()

    def write(self, content: bytes | memoryview) -> None:
        """Have it written; it must not change any more. Raises OSError."""
        self._contents.put(content)
        if self._error is not None:
            raise self._error

    def close(self) -> None:
        """Return when all is written. Raises OSError; a second call does nothing."""
        if self._thread.is_alive():
            self._contents.put(None)
            self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (content := self._contents.get()) is not None:
            if self._error is None:
                try:
                    write_all(self._descriptor, content)
                except OSError as error:
                    self._error = error


def write_all(descriptor: int, content: bytes | memoryview) -> None:
    """Write all of it, in as many calls as that takes."""
    view = memoryview(content)
    while view:
        view = view[os.write(descriptor, view) :]
