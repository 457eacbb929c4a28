"""Bytes of a wheel that survive the process: a sparse file, and a journal of what is in it.

A block is written to the file first and to the journal then, so after `kill -9` the journal
promises nothing that is not there. After a power cut it may; the wheel's digest decides.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.store import Lease, Store

ROOM = "partial"
WORTHWHILE = 32 << 20  # bytes of a wheel from which on it is kept while it arrives
QUICK = 1.0  # seconds; what arrives at a rate that brings the whole wheel in less is not kept

Interval = tuple[int, int]


class Partial:
    """The kept bytes of one wheel of `total` bytes. Safe to use from several threads."""

    def __init__(self, store: Store, sha256: str, total: int) -> None:
        self._store = store
        self._sha256 = sha256
        self._total = total
        self._seen = 0
        self._spent = self._since = 0.0
        self._receivers = 0
        self._lock = threading.Lock()
        self._lease: Lease | None = store.lease(ROOM, sha256)
        folder = store.path(ROOM, sha256)
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self._bytes = os.open(folder / "bytes", flags, 0o600)
        self._journal = os.open(folder / "journal", flags | os.O_APPEND, 0o600)
        self.have = _read_journal(folder / "journal", total)

    @classmethod
    def find(cls, store: Store, sha256: str, total: int) -> Partial | None:
        """What is kept of a wheel, or None where keeping it is not worth the writing."""
        if total < WORTHWHILE:
            return None
        try:
            return cls(store, sha256, total)
        except (OSError, StoreError):  # a full disk will be met again, where it matters
            return None

    @contextlib.contextmanager
    def receiving(self) -> Iterator[None]:
        """While a segment comes. The link's time is that in which any does, and not that in which
        all wait for what has come to be unpacked."""
        with self._lock:
            if not self._receivers:
                self._since = time.monotonic()
            self._receivers += 1
        try:
            yield
        finally:
            with self._lock:
                self._receivers -= 1
                if not self._receivers:
                    self._spent += time.monotonic() - self._since

    def write(self, start: int, block: memoryview) -> None:
        """Keep a block; it counts from the next start of a process on.

        On a link that brings the wheel at once, writing it twice would cost more than fetching
        it again, and nothing is kept.
        """
        with self._lock:  # never after `close()`: the descriptor may be another file by then
            self._seen += len(block)
            spent = self._spent + (time.monotonic() - self._since if self._receivers else 0)
            if self._lease is None or spent * self._total < QUICK * self._seen:
                return
            os.pwrite(self._bytes, block, start)
            os.write(self._journal, f"{start} {start + len(block)}\n".encode())

    def read(self, start: int, into: memoryview) -> bool:
        """Fill `into` with kept bytes; False if they are not there after all."""
        with self._lock:
            return self._lease is not None and os.preadv(self._bytes, [into], start) == len(into)

    def discard(self) -> None:
        """Forget these bytes: the wheel is whole, or they were wrong; whoever else holds them
        keeps only what it writes from now on."""
        with self._lock:
            if self._lease is not None:
                os.ftruncate(self._journal, 0)
        self.close()
        self._store.remove(ROOM, self._sha256)

    def close(self) -> None:
        """Leave the bytes for a later process; a second call does nothing."""
        with self._lock:
            if self._lease is None:
                return
            os.close(self._bytes)
            os.close(self._journal)
            self._lease.close()
            self._lease = None


def _read_journal(path: Path, total: int) -> list[Interval]:
    """The kept intervals, sorted and merged; a last line that was cut short does not count."""
    found: list[Interval] = []
    for line in path.read_bytes().split(b"\n")[:-1]:
        parts = line.split()
        if len(parts) == 2 and all(part.isdigit() for part in parts):
            start, stop = int(parts[0]), int(parts[1])
            if start < stop <= total:
                found.append((start, stop))
    merged: list[Interval] = []
    for start, stop in sorted(found):
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(stop, merged[-1][1]))
        else:
            merged.append((start, stop))
    return merged
