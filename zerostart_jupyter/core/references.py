"""Live bytes that exist elsewhere: `load` writes down where a tensor came from, `snapshot` reads
it to leave those bytes out of an image and to bring them back.

An entry counts only while its owner lives and its version is the one that was noted: a tensor
written to in place is no longer the file's content.
"""

from __future__ import annotations

import os
import threading
import weakref
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class FileIdentity:
    """What tells a file's content from another's without reading it. `mtime` in nanoseconds."""

    device: int
    inode: int
    size: int
    mtime: int

    @classmethod
    def of(cls, path: Path | str | int) -> FileIdentity:
        """The identity of a path or an open descriptor; raises OSError like os.stat."""
        status = os.stat(path)
        return cls(status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns)


class Reference(NamedTuple):
    """`length` bytes at `offset` of a file; who lets go of them takes their digest then."""

    path: Path
    offset: int
    length: int
    identity: FileIdentity

    def intact(self) -> bool:
        """True while the file is the one the bytes were read from."""
        try:
            return FileIdentity.of(self.path) == self.identity
        except OSError:
            return False


@dataclass(frozen=True, slots=True)
class Live:
    """A living owner of bytes that a reference describes; `address` is where they lie now."""

    name: str
    owner: object
    address: int
    device: str
    reference: Reference


class Held(Protocol):
    """Memory of owners whose bytes lie in `files`: let go of, and filled from there again.

    `bytes` of memory. Between the two calls the owners must not be used.
    """

    bytes: int
    files: Sequence[Path]

    def let_go(self) -> None:
        """Give the memory back to whoever it is from."""

    def take_back(self) -> None:
        """Have the same objects hold the same bytes again; does nothing where nothing is gone.

        Raises a ZerostartError that names the file that is not what it was.
        """


Holder = Callable[[Sequence[Live]], Held | None]


class _Note(weakref.ref[object]):
    """A weak reference to an owner that knows the rest: there are tens of thousands of them."""

    __slots__ = ("address", "device", "key", "name", "noted", "reference", "version")
    key: int
    name: str
    reference: Reference
    device: str
    address: Callable[[object], int]
    version: Callable[[object], int]
    noted: int


class References:
    """The register of one process. Safe to use from any thread and finalizer, and after a fork."""

    def __init__(self) -> None:
        self._notes: dict[int, _Note] = {}
        self._forget = self._drop
        self._holder: Holder = lambda lives: None
        self._renew_lock()

    def _renew_lock(self) -> None:
        self._lock = threading.RLock()

    def add(
        self,
        name: str,
        owner: object,
        reference: Reference,
        *,
        address: Callable[[Any], int],
        version: Callable[[Any], int],
        device: str = "cpu",
    ) -> None:
        """Note that `owner` holds the bytes of `reference`, as of its present version.

        `address` and `version` are given the owner, and say where its bytes lie now and how often
        they were written to.
        """
        note = _Note(owner, self._forget)
        note.key, note.name, note.reference, note.device = id(owner), name, reference, device
        note.address, note.version, note.noted = address, version, version(owner)
        with self._lock:
            self._notes[note.key] = note

    def live(self) -> Iterator[Live]:
        """Those whose owner lives, whose version is unchanged and whose file is intact."""
        with self._lock:
            notes = list(self._notes.values())
        for note in notes:
            owner = note()
            if owner is None or note.version(owner) != note.noted or not note.reference.intact():
                continue
            yield Live(note.name, owner, note.address(owner), note.device, note.reference)

    def hold_with(self, holder: Holder) -> None:
        """Have this one make the `Held` of owners; who notes them knows what their memory is."""
        self._holder = holder

    def hold(self, wanted: Callable[[Live], bool]) -> Held | None:
        """The memory of living owners that can be let go of; None if there is none."""
        lives = [live for live in self.live() if wanted(live)]
        return self._holder(lives) if lives else None

    def __len__(self) -> int:
        return len(self._notes)

    def _drop(self, note: _Note) -> None:
        with self._lock:
            self._notes.pop(note.key, None)


_REFERENCES = References()
# Owners die in forked children too, and their callbacks must not wait for a thread left behind.
os.register_at_fork(after_in_child=_REFERENCES._renew_lock)


def references() -> References:
    """The register of this process."""
    return _REFERENCES
