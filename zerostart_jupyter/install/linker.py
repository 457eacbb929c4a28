"""A process that links, beside the one that asks for it."""

from __future__ import annotations

import contextlib
import marshal
import threading
from typing import TYPE_CHECKING, BinaryIO, cast

from zerostart_jupyter.install import beside, linking
from zerostart_jupyter.install.linking import Files, Identities

if TYPE_CHECKING:
    import subprocess

WORTHWHILE = 12  # wheels to link; starting Python costs as much as linking several


class Linker:
    """Such a process. Who finds it busy, or gone, does the work in this one."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process; nobody waits for it to be ready."""
        with contextlib.suppress(OSError):
            self._process = beside.start([linking.__file__])

    def link(self, files: Files, identities: Identities | None) -> int:
        """Like `linking.link`."""
        if self._lock.acquire(blocking=False):
            try:
                count = self._linked(files, identities)
            finally:
                self._lock.release()
            if count is not None:
                return count
        return linking.link(files, identities)

    def _linked(self, files: Files, identities: Identities | None) -> int | None:
        process = self._process
        if process is None:
            return None
        try:
            given = cast("BinaryIO", process.stdin)
            given.write(marshal.dumps((files, identities)))
            given.flush()
            count: int = marshal.load(cast("BinaryIO", process.stdout))
        except (EOFError, OSError, ValueError, TypeError):  # it was ended, for want of memory say
            self._end()
            return None
        return count

    def close(self) -> None:
        """End it, once whoever uses it has his answer; a second call does nothing."""
        with self._lock:
            self._end()

    def _end(self) -> None:
        process, self._process = self._process, None
        if process is None:
            return
        process.kill()  # it has nothing to do, and would take its time to end by itself
        process.wait()
        for pipe in (process.stdin, process.stdout):
            with contextlib.suppress(OSError):
                cast("BinaryIO", pipe).close()
