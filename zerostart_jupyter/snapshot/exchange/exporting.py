"""A snapshot into a file or a folder: what is there already is not sent again."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError, SnapshotRefused
from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.core.wording import seconds as in_seconds
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import tiers
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, SnapshotInfo
from zerostart_jupyter.snapshot.exchange import blocks
from zerostart_jupyter.snapshot.exchange.folder import SUFFIX, Folder
from zerostart_jupyter.snapshot.exchange.index import Content, Index
from zerostart_jupyter.snapshot.exchange.packed import Packed
from zerostart_jupyter.snapshot.portable import description


@dataclass(frozen=True, slots=True)
class Exported:
    """Where it is; `bytes` of the snapshot, `sent` of them compressed and new, in `seconds`."""

    name: str
    path: Path
    bytes: int
    sent: int
    seconds: float

    def as_json(self) -> dict[str, Any]:
        """A plain object."""
        known = ("name", "bytes", "sent", "seconds")
        return {name: getattr(self, name) for name in known} | {"path": str(self.path)}

    def __repr__(self) -> str:
        return (
            f"Exported snapshot {self.name!r} to {self.path}: {size(self.bytes)}, "
            f"{size(self.sent)} written in {in_seconds(self.seconds)}."
        )


def export(
    name: str,
    place: str | os.PathLike[str],
    *,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Exported:
    """Write a snapshot to a file, or into a folder that exists and may hold others.

    Raises SnapshotNotFound, SnapshotRefused, SnapshotError and Cancelled; what the place held
    before is still whole then.
    """
    import time

    catalog = Catalog(settings)
    info = catalog.get(name)
    began = time.monotonic()
    path = Path(place).expanduser()
    with operation("export", info.name, hub=hub) as work, catalog.store.lease(ROOM, info.id):
        try:
            files = _files(info)
            with _open(path, info.name) as target:
                index, sent = _send(info, files, target, work)
            if isinstance(target, Packed) and target.wasted(index):
                _anew(path, info, files, work)
        except OSError as error:
            if isinstance(error, SnapshotError):
                raise
            raise SnapshotError(
                f"{path} cannot be written: {error.strerror or error}.",
                remedy="Export to a place with enough room that you may write to.",
            ) from error
    return Exported(info.name, target.path, index.total, sent, time.monotonic() - began)


@contextlib.contextmanager
def _open(path: Path, name: str) -> Iterator[Packed | Folder]:
    if path.is_dir():
        yield Folder(path, name)
        return
    with Packed.extend(path) as target:
        yield target


def _send(
    info: SnapshotInfo, files: dict[str, tuple[Path, int]], target: Packed | Folder, work: Operation
) -> tuple[Index, int]:
    total, done, sent = sum(size for _, size in files.values()), 0, 0
    contents = []
    for name, (path, length) in files.items():
        names, left = [], length
        with path.open("rb", buffering=0) as stream:
            while left:
                work.check()
                data = _exactly(stream, min(blocks.SIZE, left), path)
                left -= len(data)
                key = blocks.name(data)
                names.append(key)
                if not target.has(key):
                    packed = blocks.pack(data)
                    target.put(key, packed)
                    sent += len(packed)
                done += len(data)
                work.update("", done, total)
        contents.append(Content(name, length, tuple(names)))
    index = Index(info.id, info.name, info.tier, info.created, _about(info), tuple(contents))
    target.finish(index)
    return index, sent


def _anew(
    path: Path, info: SnapshotInfo, files: dict[str, tuple[Path, int]], work: Operation
) -> None:
    """Write a file again without what it held for earlier exports."""
    staging = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with Packed.extend(staging) as target:
            _send(info, files, target, work)
        staging.replace(path)
    finally:
        staging.unlink(missing_ok=True)


def _files(info: SnapshotInfo) -> dict[str, tuple[Path, int]]:
    """What a restore needs, by its name in the export, with the bytes of data in it."""
    if info.tier == tiers.PORTABLE:
        found = description.Description.read(info.path, info.digest)
        folder = info.path / description.FOLDER
        named = {f"{description.FOLDER}/{name}": folder / name for name in found.digests}
        named[description.FILE] = info.path / description.FILE
        return {name: (path, path.stat().st_size) for name, path in named.items()}
    manifest = info.manifest()
    files = {f"images/{name}": info.images / name for name in manifest.digests}
    files["manifest.json"] = info.path / "manifest.json"
    listed = {name: (path, path.stat().st_size) for name, path in files.items()}
    for text, (length, digest) in manifest.memory.items():
        listed[f"memory/{digest}"] = (Path(text), length)
    return listed


def _about(info: SnapshotInfo) -> dict[str, Any]:
    import json

    try:
        return dict(json.loads((info.path / MARKER).read_text())["about"])
    except (OSError, ValueError, KeyError) as error:
        raise SnapshotRefused(
            f"Snapshot {info.name!r} was just deleted.", remedy="Export another."
        ) from error


def _exactly(stream: Any, count: int, path: Path) -> bytes:
    data: bytes = stream.read(count)
    while len(data) < count:
        more = stream.read(count - len(data))
        if not more:
            raise SnapshotRefused(
                f"{path.name} of this snapshot is cut short.",
                remedy="Delete the snapshot and save it again.",
            )
        data += more
    return data


__all__ = ["SUFFIX", "Exported", "export"]
