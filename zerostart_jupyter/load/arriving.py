"""A file whose bytes come as they are asked for, and which others see once it has them all.

It grows in a partial file, in any order, beside a journal of what is in it: a block is written
first and noted then, so after a kill the journal promises nothing that is not there. The finished
file gets a modification time that was fixed at the start, so that its identity is known before
its bytes are: what is read from it early can be referred to like any other file's.
"""

from __future__ import annotations

import contextlib
import functools
import os
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from hashlib import file_digest
from pathlib import Path
from typing import Protocol

from zerostart_jupyter.core.errors import CheckpointInvalid, LoadError
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.load.intervals import Interval, Intervals

PIECE = 8 << 20  # bytes that one thread fetches at once to complete a file
_SHA256 = re.compile(r"[0-9a-f]{64}$")

Write = Callable[[int, memoryview], None]


class Stopped(Exception):
    """The load was ended while bytes were waited for."""


class Origin(Protocol):
    """Where the bytes are. Safe to use from several threads."""

    shown: str  # for messages

    def read(self, start: int, stop: int, write: Write) -> None:
        """Give these bytes in parts, in order. Raises LoadError, or Stopped after `stop()`."""

    def stop(self) -> None:
        """End what is being read, soon."""

    def close(self) -> None:
        """Let go of what is open."""


@dataclass(frozen=True, slots=True)
class Place:
    """Where a file grows and where it then is; `publish` moves it, `release` gives locks back.

    `etag` names the content; where it is a sha256, a file that outlived the machine's last start is
    checked against it, and else it is begun anew.
    """

    partial: Path
    final: Path
    etag: str
    publish: Callable[[], None]
    release: Callable[[], None]

    @property
    def journal(self) -> Path:
        """What the partial file has so far, a line an interval, under the content's name."""
        return self.partial.with_suffix(".journal")


class Arriving:
    """One file on its way. Safe to use from several threads; `close()` keeps what has come."""

    def __init__(self, place: Place, origin: Origin, size: int) -> None:
        self.path = place.final
        self.downloaded = 0
        self._place = place
        self._origin = origin
        self._lock = threading.Lock()
        self._closed = False
        self._published = False
        self._journal = -1
        self.descriptor = -1
        try:
            with self._writing():
                self._open(size)
        except BaseException:
            self.close()
            raise

    @property
    def published(self) -> bool:
        """True once others can see the file."""
        return self._published

    def fetch(self, start: int, stop: int) -> None:
        """Return when these bytes are in the file. Raises LoadError, Stopped."""
        with self._lock:
            missing = list(self._have.missing(start, stop))
        for begin, end in missing:
            self._origin.read(begin, end, self._write)

    def complete(self, threads: int, told: Callable[[int], None] = lambda here: None) -> None:
        """Fetch what nobody asked for and publish the file; `told` hears how many bytes are here.

        Raises LoadError, Stopped, or what `told` raises.
        """
        with self._lock:
            if self._published:
                return
            missing = list(self._have.missing(0, self.identity.size))
        pieces = [
            (at, min(at + PIECE, stop))
            for start, stop in missing
            for at in range(start, stop, PIECE)
        ]
        with ThreadPoolExecutor(max(1, min(threads, len(pieces)))) as pool:
            try:
                for _ in pool.map(lambda piece: self.fetch(*piece), pieces):
                    told(self._have.total)
            except BaseException:
                self.stop()
                raise
        if self._doubtful:
            self._check_digest()
        with self._writing():
            os.utime(self.descriptor, ns=(self.identity.mtime, self.identity.mtime))
            self._place.publish()
            self._place.journal.unlink(missing_ok=True)
        self._published = True
        self._place.release()

    def stop(self) -> None:
        """Let every fetch end soon, with Stopped."""
        self._origin.stop()

    def close(self) -> None:
        """Close the file and give its locks back; a second call does nothing."""
        with self._lock:
            if self._closed:
                return
            self._closed = True
            for descriptor in (self.descriptor, self._journal):
                if descriptor >= 0:
                    os.close(descriptor)
        self._place.release()
        self._origin.close()

    def _open(self, size: int) -> None:
        place = self._place
        place.partial.parent.mkdir(parents=True, exist_ok=True)
        flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
        self.descriptor = os.open(place.partial, flags, 0o666)  # as the umask has it
        self._journal = os.open(place.journal, flags | os.O_APPEND, 0o666)
        known = _read(self._journal)
        about = f"{place.etag} {size}"
        # What was noted before the machine stopped may never have reached the disk.
        self._doubtful = bool(known[1:]) and not known[0].endswith(_boot())
        usable = known[:1] == [f"{about} {_boot()}"] or (
            self._doubtful and known[0].startswith(f"{about} ") and bool(_SHA256.match(place.etag))
        )
        if not usable or os.fstat(self.descriptor).st_size != size:
            self._doubtful = False
            known = []
            os.ftruncate(self._journal, 0)
            os.ftruncate(self.descriptor, 0)
            os.ftruncate(self.descriptor, size)
            os.write(self._journal, f"{about} {_boot()}\n".encode())
        self._have = Intervals(_intervals(known[1:], size))
        free = os.fstatvfs(self.descriptor)
        needed = size - self._have.total
        if free.f_bavail * free.f_frsize < needed:
            raise LoadError(
                f"{self._origin.shown} needs {needed / (1 << 30):.2f} GiB, and "
                f"{place.partial.parent} has {free.f_bavail * free.f_frsize / (1 << 30):.2f} left.",
                remedy="Make room, or move the cache: HF_HOME for the hub's, ZEROSTART_CACHE ours.",
            )
        status = os.fstat(self.descriptor)
        # Whole seconds: every file system keeps those.
        self.identity = FileIdentity(
            status.st_dev, status.st_ino, size, int(time.time()) * 1_000_000_000
        )

    def _write(self, start: int, block: memoryview) -> None:
        with self._writing():
            done = 0
            while done < len(block):
                done += os.pwrite(self.descriptor, block[done:], start + done)
            stop = start + len(block)
            os.write(self._journal, f"{start} {stop}\n".encode())
        with self._lock:
            self._have.add(start, stop)
            self.downloaded += len(block)

    def _check_digest(self) -> None:
        with open(self.descriptor, "rb", closefd=False) as file:
            file.seek(0)
            found = file_digest(file, "sha256").hexdigest()
        if found != self._place.etag:
            with self._writing():
                os.ftruncate(self._journal, 0)
            raise CheckpointInvalid(
                f"{self._origin.shown} was resumed and is not what the server has: its sha256 is "
                f"{found[:12]}…, not {self._place.etag[:12]}….",
                remedy="Load it again: it will be fetched anew.",
            )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        try:
            yield
        except LoadError:
            raise
        except OSError as error:
            raise LoadError(
                f"{self._place.partial} cannot be written: {error.strerror or error}.",
                remedy="Make room, or move the cache: HF_HOME for the hub's, ZEROSTART_CACHE ours.",
            ) from error


def _read(descriptor: int) -> list[str]:
    """The journal's lines, without a last one that was cut short."""
    text = os.pread(descriptor, os.fstat(descriptor).st_size, 0).decode("ascii", "replace")
    return text.split("\n")[:-1]


def _intervals(lines: Iterable[str], size: int) -> Iterator[Interval]:
    for line in lines:
        match = re.fullmatch(r"(\d{1,19}) (\d{1,19})", line)
        if match and int(match[1]) < int(match[2]) <= size:
            yield int(match[1]), int(match[2])


@functools.cache
def _boot() -> str:
    """Which start of the machine this is; "-" where it does not say."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip() or "-"
    except OSError:
        return "-"
