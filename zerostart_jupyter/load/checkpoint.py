"""A checkpoint, opened: every shard's descriptor, and one validated table of its tensors."""

from __future__ import annotations

import contextlib
import os
import stat
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

from zerostart_jupyter.core.errors import (
    CheckpointChanged,
    CheckpointInvalid,
    CheckpointNotFound,
    LoadError,
)
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import collector, filesystem, header
from zerostart_jupyter.load.ahead import LONG, Ahead
from zerostart_jupyter.load.arriving import Arriving
from zerostart_jupyter.load.locate import Located, locate
from zerostart_jupyter.load.slicing import Window

PLANNED = 64  # headers of this process that are remembered by their files' identity
RESTED = 2_000_000_000  # nanoseconds without a change from which on an identity is believed

_PLANNED: dict[FileIdentity, tuple[int, header.Header]] = {}


class Entry(NamedTuple):  # not a dataclass: there are tens of thousands, made in each load
    """One tensor: where its bytes lie. `start` and `stop` are offsets in the shard's file.

    `shape` is the file's; with a `window` the bytes are those of a part of the tensor.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    shard: int
    start: int
    stop: int
    window: Window | None = None

    @property
    def nbytes(self) -> int:
        """Bytes of the tensor in the file."""
        return self.stop - self.start


@dataclass(frozen=True, slots=True)
class Shard:
    """One open file. Everything reads through its descriptor, so a rename cannot swap it."""

    path: Path
    descriptor: int
    identity: FileIdentity
    arriving: Arriving | None = None
    ahead: Ahead | None = None  # reads it since before its header was parsed

    def just_came(self, at: int) -> bool:
        """Whether the byte at `at` came from the disk since the file was opened."""
        return self.ahead is not None and self.ahead.brought(self.descriptor, at)

    def verify(self) -> None:
        """Raise CheckpointChanged if somebody wrote to the file, or cut it, since it was opened."""
        now = FileIdentity.of(self.descriptor)
        if self.arriving is not None:  # we write to it ourselves
            now = replace(now, mtime=self.identity.mtime)
        if now != self.identity:
            raise self.changed()

    def close(self) -> None:
        """Close the descriptor; what is still to come is kept for the next time."""
        if self.arriving is not None:
            self.arriving.close()
        else:
            with contextlib.suppress(OSError):  # of a mount that is gone; nothing was written
                os.close(self.descriptor)

    def changed(self) -> CheckpointChanged:
        """The error for a file that is no longer what its header described."""
        return CheckpointChanged(
            f"{self.path} changed while it was being read.",
            remedy="Wait until nothing writes to it any more, then load it again.",
        )


class Checkpoint:
    """Shards and entries, both in file order; the caller closes it."""

    def __init__(
        self,
        title: str,
        shards: tuple[Shard, ...],
        entries: Mapping[str, Entry],
        metadata: Mapping[str, str],
        ahead: Ahead | None = None,
    ) -> None:
        self.title = title
        self.shards = shards
        self.entries = entries
        self.metadata = metadata
        self.ahead = ahead
        self._open = list(shards)

    @property
    def nbytes(self) -> int:
        """Bytes of all tensors."""
        return sum(entry.nbytes for entry in self.entries.values())

    def only(self, wanted: Callable[[str], bool]) -> None:
        """Forget the tensors whose names are not wanted: they are not read."""
        self.entries = {name: entry for name, entry in self.entries.items() if wanted(name)}

    def close(self) -> None:
        """Close the descriptors; a second call does nothing."""
        if self.ahead is not None:
            self.ahead.close()
        while self._open:
            self._open.pop().close()

    def __enter__(self) -> Checkpoint:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_checkpoint(
    source: str | Path, settings: Settings | None = None, *, ahead: bool = False
) -> Checkpoint:
    """The checkpoint that `source` names: a file, an index, a directory, a hub id or an address.

    What is not on this machine begins to arrive. With `ahead` it will be read at once and from its
    beginning through the page cache: long headers are parsed while that has begun. Raises
    CheckpointNotFound, CheckpointInvalid (with the file and the reason), DownloadFailed, LoadError.
    """
    return open_located(locate(source, settings), ahead=ahead)


@collector.paused()
def open_located(located: Located, *, ahead: bool = False) -> Checkpoint:
    """The checkpoint in these files; `ahead` and what is raised are as in `open_checkpoint`."""
    with contextlib.ExitStack() as opened:
        opened.callback(located.close)
        shards: list[Shard] = []
        entries: dict[str, Entry] = {}
        metadata: dict[str, str] = {}
        for path in located.files:
            shards.append(_shard(path, located))
            opened.callback(shards[-1].close)
        begun = _begun(shards) if ahead else None
        if begun is not None:
            opened.callback(begun.close)
            shards = [replace(shard, ahead=begun) for shard in shards]
        for number, (path, shard) in enumerate(zip(located.files, shards, strict=True)):
            begin, table = _header(shard)
            metadata.update(table.metadata)
            for name, dtype, shape, start, stop in table.tensors:
                if _counts(name, path, located, entries):
                    entries[name] = Entry(name, dtype, shape, number, begin + start, begin + stop)
        for alias, name in located.aliases.items():
            if name in entries:
                entries.setdefault(alias, entries[name]._replace(name=alias))
        _complete(entries, located)
        opened.pop_all()
        located.opened()
    return Checkpoint(located.title, tuple(shards), entries, metadata, begun)


def _begun(shards: Sequence[Shard]) -> Ahead | None:
    """The reading of files whose headers are worth it; none that come over a network."""
    if not all(map(_here, shards)) or not any(map(_long, shards)):
        return None
    ahead = Ahead([shard.descriptor for shard in shards])
    ahead.start()
    return ahead


def _here(shard: Shard) -> bool:
    try:
        return shard.arriving is None and not filesystem.of(shard.descriptor).network
    except OSError:  # a mount that is gone
        return False


def _long(shard: Shard) -> bool:
    """Whether parsing its header takes a while."""
    if shard.identity in _PLANNED:
        return False
    try:
        return header.length(_pread(shard, header.PREFIX, 0), shard.identity.size) >= LONG
    except (header.Malformed, LoadError):
        return False  # said where it is parsed


def joined(title: str, parts: Sequence[Checkpoint]) -> Checkpoint:
    """One checkpoint of several whose names differ, with descriptors of its own."""
    shards: list[Shard] = []
    entries: dict[str, Entry] = {}
    metadata: dict[str, str] = {}
    with contextlib.ExitStack() as opened:
        for part in parts:
            for name, entry in part.entries.items():
                entries[name] = entry._replace(shard=entry.shard + len(shards))
            for shard in part.shards:
                shards.append(replace(shard, descriptor=os.dup(shard.descriptor)))
                opened.callback(os.close, shards[-1].descriptor)
            metadata.update(part.metadata)
        opened.pop_all()
    return Checkpoint(title, tuple(shards), entries, metadata)


def _shard(path: Path, located: Located) -> Shard:
    arriving = located.arriving.get(path)
    if arriving is None:
        return _open(path)
    return Shard(arriving.path, arriving.descriptor, arriving.identity, arriving)


def _open(path: Path) -> Shard:
    try:
        # O_NONBLOCK: a FIFO must not hang us before we have seen that it is one.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except FileNotFoundError as error:
        raise CheckpointNotFound(f"There is no file {path}.", remedy="Check the path.") from error
    except OSError as error:
        raise LoadError(
            f"{path} cannot be opened: {error.strerror}.",
            remedy="Check its permissions.",
        ) from error
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise _invalid(path, "it is not a regular file")
        return Shard(path.resolve(), descriptor, FileIdentity.of(descriptor))
    except BaseException:
        os.close(descriptor)
        raise


def _header(shard: Shard) -> tuple[int, header.Header]:
    size = shard.identity.size
    known = _PLANNED.get(shard.identity)
    if known is not None:
        return known
    try:
        count = header.length(_pread(shard, header.PREFIX, 0), size)
        begin = header.PREFIX + count
        found = begin, header.parse(_pread(shard, count, header.PREFIX), size - begin)
    except header.Malformed as error:
        raise _invalid(shard.path, str(error)) from error
    # A file written to within a tick of its clock keeps its identity: only what rests is known.
    if shard.arriving is None and time.time_ns() - shard.identity.mtime > RESTED:
        while len(_PLANNED) >= PLANNED:
            _PLANNED.pop(next(iter(_PLANNED), shard.identity), None)
        _PLANNED[shard.identity] = found
    return found


def forget_headers() -> None:
    """Have the next load parse them again, as a new process would."""
    _PLANNED.clear()


def _pread(shard: Shard, count: int, offset: int) -> bytes:
    if shard.arriving is not None:
        shard.arriving.fetch(offset, min(offset + count, shard.identity.size))
    parts: list[bytes] = []
    while count > 0:
        try:
            part = os.pread(shard.descriptor, count, offset)
        except OSError as error:
            raise unreadable(shard, offset, error) from error
        if not part:
            break
        parts.append(part)
        count -= len(part)
        offset += len(part)
    return b"".join(parts)


def unreadable(shard: Shard, offset: int, error: OSError) -> LoadError:
    """The error for a file whose bytes the system would not give."""
    return LoadError(
        f"{shard.path} could not be read at byte {offset}: {error.strerror or error}.",
        remedy="Check the disk or the network mount, then load it again.",
    )


def _counts(name: str, path: Path, located: Located, entries: Mapping[str, Entry]) -> bool:
    """Whether the tensor of this name in this file is the checkpoint's."""
    home = path if located.homes is None else located.homes.get(name, path)
    if home is not path and home != path:  # mostly one object, and to compare paths is slow
        return False  # the index says that another shard's copy counts
    if name in entries:
        other = located.files[entries[name].shard]
        raise _invalid(path, f"tensor {name!r} is in {other.name} too")
    return True


def _complete(entries: Mapping[str, Entry], located: Located) -> None:
    for name, path in (located.homes or {}).items():
        if name not in entries:
            raise _invalid(path, f"the index promises tensor {name!r} in it")


def _invalid(path: Path, reason: str) -> CheckpointInvalid:
    return CheckpointInvalid(
        f"{path} is not a valid safetensors file: {reason}.",
        remedy="Download or save it again.",
    )
