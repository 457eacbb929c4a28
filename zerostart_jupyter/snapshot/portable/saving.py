"""Saves a session under a name, by its names."""

from __future__ import annotations

import hashlib
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import estimate, installed, revival, tiers
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, fresh_id
from zerostart_jupyter.snapshot.portable import description
from zerostart_jupyter.snapshot.portable.pickling import PICKLE
from zerostart_jupyter.snapshot.portable.writing import Session


@dataclass(frozen=True, slots=True)
class Request:
    """What is to be saved: `kernel_seconds` is what it cost to come this far.

    `running` says that a cell asks for it, whose input is then left out.
    """

    name: str
    reason: str
    notebook: str | None
    kernel_seconds: float
    replace: bool = False
    reseed: bool = True
    running: bool = True
    kernelspec: str | None = None
    encrypted: bool = False


def save(
    request: Request, shell: Any, settings: Settings, hub: Hub | None = None
) -> dict[str, Any]:
    """What the marker says of it, with `omitted` and `changed`; the session goes on meanwhile.

    Raises SnapshotExists and SnapshotError; then nothing is left of it.
    """
    with operation("snapshot", request.name, unit="names", hub=hub) as work:
        try:
            return _save(request, shell, settings, work)
        except OSError as error:
            if isinstance(error, SnapshotError):
                raise
            raise SnapshotError(
                f"Snapshot {request.name!r} could not be written: {error.strerror or error}.",
                remedy="Make room with `zerostart cache prune`, and save again.",
            ) from error


def _save(request: Request, shell: Any, settings: Settings, work: Operation) -> dict[str, Any]:
    began = time.monotonic()
    key, catalog = fresh_id(), Catalog(settings)
    about: dict[str, Any] = {
        "name": request.name,
        "tier": tiers.PORTABLE,
        "reason": request.reason,
        "notebook": request.notebook,
        "gpu_bytes": 0,
        "parent": revival.origin(),
        "kernel_seconds": request.kernel_seconds,
        "environment": installed.digest(),
        "kernelspec": request.kernelspec,
        "encrypted": request.encrypted,
        "modules": len(sys.modules),
        "frozen_seconds": 0.0,
    }
    session = Session(shell, key, settings.cache, reseed=request.reseed, running=request.running)
    with (
        catalog.reserve(request.name, replace=request.replace),
        catalog.publish(key, about) as directory,
    ):
        written = session.write(directory, lambda at, of: work.update("", at, of), work.check)
        about["bytes"] = about["read_bytes"] = written.bytes
        about["digest"] = hashlib.sha256((directory / description.FILE).read_bytes()).hexdigest()
        about["seconds"] = time.monotonic() - began
    entry = catalog.store.get(ROOM, key)
    assert entry is not None
    estimate.learn_disk(catalog.store, _largest(entry.path, written))
    more = {"omitted": written.omitted, "changed": written.changed}
    return about | more | {"id": key, "created": entry.created}


def _largest(directory: Path, written: description.Description) -> Path:
    sizes = {name: each.bytes for name, each in written.digests.items()}
    return directory / description.FOLDER / max(sizes, key=sizes.__getitem__, default=PICKLE)
