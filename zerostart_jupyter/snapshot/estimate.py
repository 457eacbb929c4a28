"""How long a restore will take: what it has to read and import, as this machine has shown so far.

A first guess comes from the bytes to read, the disk's measured speed, what goes on to a GPU and the
modules to import; each restore that happens corrects the next guess.
"""

from __future__ import annotations

import contextlib
import mmap
import os
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.store import Store

ROOM = "probes"
_DISK = "snapshot-disk-rate"
_PROBE = 16 << 20  # bytes read at once to learn a disk's speed
_PROBES = 4  # of which the fastest counts: what was just saved is on its way to the disk
_USUAL = 1e9  # bytes a second, until one was measured
_BASE = {"process": 0.3, "portable": 0.6}  # seconds of a snapshot with nothing in it
_BARE = 700  # modules of a kernel in which nothing was imported yet
_MODULE = 0.0009  # seconds to import one more module
_BUS = 10e9  # bytes a second from the host's memory to a GPU's
_WEIGHT = 0.5  # of the newest restore
_BOUND = 20.0  # a restore beyond this factor of its guess says nothing of the next one


class Measured:
    """What this machine has shown: read once for a whole list."""

    def __init__(self, store: Store) -> None:
        disk = store.get(ROOM, _DISK)
        self._rate = _number(disk.about if disk else {}, "rate", _USUAL) or _USUAL
        self._factors = {}
        for tier in _BASE:
            entry = store.get(ROOM, _key(tier))
            self._factors[tier] = _number(entry.about if entry else {}, "factor", 1.0)

    def seconds(self, tier: str, about: Mapping[str, Any]) -> float:
        """The expected seconds of a restore of what this marker describes."""
        return self.guess(tier, about) * self._factors.get(tier, 1.0)

    def guess(self, tier: str, about: Mapping[str, Any]) -> float:
        """The same before any experience with restores."""
        read = _number(about, "read_bytes", _number(about, "bytes", 0.0))
        imports = max(0.0, _number(about, "modules", 0.0) - _BARE) * _MODULE
        moved = _number(about, "gpu_bytes", 0.0) / _BUS
        return _BASE.get(tier, 1.0) + read / self._rate + moved + imports

    def factor(self, tier: str) -> float:
        """What restores of this tier took, as a multiple of their guesses."""
        return self._factors.get(tier, 1.0)


def remember(store: Store, tier: str, about: Mapping[str, Any], seconds: float) -> None:
    """A restore took this long: the next guess knows."""
    measured = Measured(store)
    shown = seconds / measured.guess(tier, about)
    if not 1 / _BOUND < shown < _BOUND:
        return
    factor = measured.factor(tier) * (1 - _WEIGHT) + shown * _WEIGHT
    _note(store, _key(tier), {"factor": factor})


def learn_disk(store: Store, path: Path, length: int | None = None) -> None:
    """Measure, once, how fast a file of the cache is read past the page cache.

    `length` bytes of it, by default all.
    """
    if store.get(ROOM, _DISK) is not None:
        return
    with contextlib.suppress(OSError, ValueError):  # no O_DIRECT here: the usual speed will do
        rate = _direct(path, path.stat().st_size if length is None else length)
        if rate:
            _note(store, _DISK, {"rate": rate})


def _direct(path: Path, whole: int) -> float:
    length = min(_PROBE, whole) & ~((1 << 20) - 1)
    if not length:
        return 0.0
    probes = min(_PROBES, whole // length)
    with mmap.mmap(-1, length) as place:
        opened = os.open(path, os.O_RDONLY | os.O_DIRECT)
        try:
            return max(_rate(opened, place, number * length) for number in range(probes))
        finally:
            os.close(opened)


def _rate(opened: int, place: mmap.mmap, offset: int) -> float:
    began = time.perf_counter()
    count = os.preadv(opened, [place], offset)
    return count / (time.perf_counter() - began)


def _note(store: Store, key: str, about: Mapping[str, Any]) -> None:
    with contextlib.suppress(StoreError):  # a full disk: then nothing was learnt
        store.remove(ROOM, key)
        with store.publish(ROOM, key, about):
            pass


def _key(tier: str) -> str:
    return f"snapshot-{tier}"


def _number(about: Mapping[str, Any], name: str, default: float) -> float:
    try:
        found = float(about.get(name, default))
    except (TypeError, ValueError):
        return default
    return found if 0 <= found < float("inf") else default
