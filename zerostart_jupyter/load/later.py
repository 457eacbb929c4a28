"""Tensors of mapped files, made when they are first asked for, or before by who has the time.

A view needs no byte to be there. Each call into torch gives the GIL away, though, and beside a cell
that runs Python it comes back after a switch interval only: a thread of ours would take minutes
over tens of thousands of views. Whoever asks for one holds the GIL already.
"""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING

from zerostart_jupyter.load import tensors

if TYPE_CHECKING:
    import torch

    from zerostart_jupyter.core.references import Reference
    from zerostart_jupyter.load.checkpoint import Entry, Shard
    from zerostart_jupyter.load.readers.contract import Reader

TOGETHER = 256  # tensors that are made before somebody else who wants one has a turn


class Later:
    """What tensors of `entries` will be. Of a reader that is `ahead`, which is closed here."""

    def __init__(self, reader: Reader, shards: Sequence[Shard], entries: Iterable[Entry]) -> None:
        self._reader = reader
        self._shards = shards
        self._entries: Mapping[str, Entry] = {each.name: each for each in entries}
        self._made: dict[str, tuple[torch.Tensor, Reference]] = {}
        self._read = False
        self.renew_lock()

    def renew_lock(self) -> None:
        """In a forked child the thread that held it may be gone."""
        self._lock = threading.Lock()

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def __getitem__(self, name: str) -> tuple[torch.Tensor, Reference]:
        """The tensor, the same each time, and where it is from. It may be touched once it came."""
        found = self._made.get(name)
        if found is None:
            with self._lock:
                found = self._make(self._entries[name])
                self._tidy()
        return found

    def prepare(self, stopped: Callable[[], bool]) -> None:
        """Make all of them now, unless it is stopped."""
        waiting = iter(self._entries.values())
        while not stopped() and (some := list(itertools.islice(waiting, TOGETHER))):
            with self._lock:
                for entry in some:
                    self._make(entry)

    def settle(self, came: Container[str]) -> None:
        """Nothing is read any more: forget those that did not come."""
        with self._lock:
            self._read = True
            self._entries = {name: each for name, each in self._entries.items() if name in came}
            self._made = {name: each for name, each in self._made.items() if name in came}
            self._tidy()

    def _make(self, entry: Entry) -> tuple[torch.Tensor, Reference]:
        found = self._made.get(entry.name)
        if found is None:
            shard = self._shards[entry.shard]
            tensor = tensors.view(entry, shard, self._reader.storage(entry))
            found = self._made[entry.name] = tensor, tensors.reference(entry, shard)
            tensors.remember(entry.name, *found)
        return found

    def _tidy(self) -> None:
        if self._read and len(self._made) == len(self._entries):
            self._reader.close()
