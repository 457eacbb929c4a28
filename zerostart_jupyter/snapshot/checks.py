"""What must hold before a snapshot is restored; each refusal names what differs."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import elf, occupied
from zerostart_jupyter.snapshot.catalog import SnapshotInfo
from zerostart_jupyter.snapshot.criu import Criu
from zerostart_jupyter.snapshot.manifest import Manifest, Needed

_NAMED = 3  # differences that a message lists before it only counts


def before_restore(info: SnapshotInfo, manifest: Manifest, criu: Criu) -> None:
    """Raise SnapshotRefused if this snapshot cannot come back here and now."""
    found = [*_machine(manifest, criu), *_gpus(manifest), *_files(manifest), *_memory(manifest)]
    found += occupied.taken(manifest.places)
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        raise SnapshotRefused(
            f"Snapshot {info.name!r} cannot be restored: {'; '.join(found[:_NAMED])}{more}.",
            remedy="Undo that difference, or re-run the notebook and save it again.",
        )


def cpu_features() -> tuple[str, ...]:
    """What this processor can do, as /proc/cpuinfo names it."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ()
    for line in lines:
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return tuple(sorted(value.split()))
    return ()


def _machine(manifest: Manifest, criu: Criu) -> Iterator[str]:
    if manifest.machine != os.uname().machine:
        yield f"it was saved on {manifest.machine}, this is {os.uname().machine}"
        return
    missing = sorted(set(manifest.cpu) - set(cpu_features()))
    if missing:
        yield f"this processor lacks {', '.join(missing[:_NAMED])}"
    if _release(criu.version) < _release(manifest.criu):
        yield f"CRIU {criu.version} is older than the {manifest.criu} that saved it"


def _gpus(manifest: Manifest) -> list[str]:
    if not manifest.gpu:
        return []
    from zerostart_jupyter.snapshot.gpu import kernel as gpu

    return gpu.restorable(manifest.gpu)


def _files(manifest: Manifest) -> Iterator[str]:
    for each in manifest.needed:
        try:
            found = os.stat(each.path)
        except OSError:
            yield f"{each.path} is gone"
            continue
        grown = each.size is not None and found.st_size != each.size
        touched = each.mtime is not None and found.st_mtime_ns != each.mtime
        if grown or (touched and not _same_build(each)):
            yield f"{each.path} has changed"


def _same_build(needed: Needed) -> bool:
    return needed.build_id is not None and elf.build_id(needed.path) == needed.build_id


def _memory(manifest: Manifest) -> Iterator[str]:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return
    free = next((int(ln.split()[1]) << 10 for ln in lines if ln.startswith("MemAvailable:")), None)
    if free is not None and manifest.bytes > free:
        from zerostart_jupyter.core.wording import size

        yield f"it needs {size(manifest.bytes)} of memory, {size(free)} are free"


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
