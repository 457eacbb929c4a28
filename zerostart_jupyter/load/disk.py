"""The disk's own speed, to measure a load against: a short read of the same files, uncached."""

from __future__ import annotations

import mmap
import os
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.load import pages

BLOCK = 8 << 20  # bytes a thread asks for at once
THREADS = 4
SECONDS = 0.5  # after which no further block is begun
LIMIT = 1 << 30  # bytes read at most


@dataclass(frozen=True, slots=True)
class DiskSpeed:
    """What a probe read and how long it took."""

    bytes: int
    seconds: float

    @property
    def gb_per_second(self) -> float:
        """10^9 bytes a second."""
        return self.bytes / 1e9 / self.seconds


def cached(files: Sequence[Path]) -> float:
    """Share of the files' bytes, 0 to 1, that are in memory already."""
    held = total = 0.0
    for path in files:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            size = os.fstat(descriptor).st_size
            held += size * pages.resident(descriptor)
            total += size
        finally:
            os.close(descriptor)
    return held / total if total else 1.0


def probe(
    files: Sequence[Path], *, seconds: float = SECONDS, limit: int = LIMIT
) -> DiskSpeed | None:
    """How fast the files come from where they are stored, past the page cache (O_DIRECT).

    None where the file system does not do that. What a drive or a host keeps in a cache of its
    own still counts as its speed.
    """
    descriptors: list[int] = []
    try:
        for path in files:
            plain = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            try:
                direct = pages.open_direct(plain)
            finally:
                os.close(plain)
            if direct is None:
                return None
            descriptors.append(direct)
        return _Probe(descriptors, seconds, limit).run()
    finally:
        for descriptor in descriptors:
            os.close(descriptor)


class _Probe:
    def __init__(self, descriptors: Sequence[int], seconds: float, limit: int) -> None:
        self._blocks = _blocks(descriptors, limit)
        self._seconds = seconds
        self._lock = threading.Lock()
        self._bytes = 0
        self._refused = False

    def run(self) -> DiskSpeed | None:
        began = time.monotonic()
        self._deadline = began + self._seconds
        threads = [threading.Thread(target=self._read, daemon=True) for _ in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        if self._refused or self._bytes == 0:
            return None
        return DiskSpeed(self._bytes, time.monotonic() - began)

    def _read(self) -> None:
        with mmap.mmap(-1, BLOCK) as room, memoryview(room) as view:
            view[:: mmap.PAGESIZE] = bytes(len(view[:: mmap.PAGESIZE]))  # touch it beforehand
            while time.monotonic() < self._deadline or self._bytes == 0:
                with self._lock:
                    block = next(self._blocks, None)
                if block is None:
                    return
                try:
                    got = pages.preadv_direct(block[0], view, block[1])
                except OSError:
                    got = None
                if got is None:
                    self._refused = True
                    return
                with self._lock:
                    self._bytes += got


def _blocks(descriptors: Sequence[int], limit: int) -> Iterator[tuple[int, int]]:
    for descriptor in descriptors:
        for offset in range(0, os.fstat(descriptor).st_size, BLOCK):
            if limit <= 0:
                return
            limit -= BLOCK
            yield descriptor, offset
