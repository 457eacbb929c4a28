"""The bytes of a file that is far away, on a network file system, read for a copy that is near."""

from __future__ import annotations

import os
import threading
from pathlib import Path

from zerostart_jupyter.core.errors import CheckpointChanged, LoadError
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.load.arriving import Stopped, Write

BUFFER = 4 << 20  # bytes asked for at once: a few of the largest requests such systems send


class FileOrigin:
    """An Origin: an open file, which must stay what it is until it has been read."""

    def __init__(self, path: Path, identity: FileIdentity) -> None:
        self.shown = str(path)
        self._identity = identity
        self._stopped = threading.Event()
        self._lock = threading.Lock()
        try:
            self._descriptor: int | None = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise self._unreadable(0, error) from error

    def read(self, start: int, stop: int, write: Write) -> None:
        """Give these bytes; raises CheckpointChanged if the file is another by then."""
        buffer = memoryview(bytearray(min(BUFFER, stop - start)))
        assert self._descriptor is not None
        at = start
        while at < stop:
            if self._stopped.is_set():
                raise Stopped
            try:
                got = os.preadv(self._descriptor, [buffer[: stop - at]], at)
            except OSError as error:
                raise self._unreadable(at, error) from error
            if got == 0:
                raise self._changed()
            write(at, buffer[:got])
            at += got
        if FileIdentity.of(self._descriptor) != self._identity:
            raise self._changed()
        # The copy is what will be read again: no memory for these pages.
        os.posix_fadvise(self._descriptor, start, stop - start, os.POSIX_FADV_DONTNEED)

    def stop(self) -> None:
        """End each read after the part it is at."""
        self._stopped.set()

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        with self._lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _changed(self) -> CheckpointChanged:
        return CheckpointChanged(
            f"{self.shown} changed while it was being read.",
            remedy="Wait until nothing writes to it any more, then load it again.",
        )

    def _unreadable(self, offset: int, error: OSError) -> LoadError:
        return LoadError(
            f"{self.shown} could not be read at byte {offset}: {error.strerror or error}.",
            remedy="Check the disk or the network mount, then load it again.",
        )
