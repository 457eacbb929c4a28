"""What must hold before a snapshot is restored; each refusal names what differs."""

from __future__ import annotations

import contextlib
import os
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import elf, occupied, room
from zerostart_jupyter.snapshot.catalog import SnapshotInfo
from zerostart_jupyter.snapshot.criu import Criu
from zerostart_jupyter.snapshot.manifest import Manifest, Needed

_NAMED = 3  # differences that a message lists before it only counts
_GHOST = "ghost-file-"
_AGAIN = "re-run the notebook and save it again"


@dataclass(frozen=True, slots=True)
class Difference:
    """What is not as it was, and what to do about that."""

    what: str
    remedy: str


def before_restore(info: SnapshotInfo, manifest: Manifest, criu: Criu) -> None:
    """Raise SnapshotRefused if this snapshot cannot come back here and now."""
    found = [
        *_machine(manifest, criu),
        *_gpus(manifest),
        *_files(manifest),
        *_memory(manifest),
        *_disk(manifest, info.images),
    ]
    found += [Difference(each, "end what has it") for each in occupied.taken(manifest.places)]
    if found:
        more = f"; and {len(found) - _NAMED} more" if len(found) > _NAMED else ""
        named = "; ".join(each.what for each in found[:_NAMED])
        remedies = "; ".join(dict.fromkeys(each.remedy for each in found[:_NAMED]))
        raise SnapshotRefused(
            f"Snapshot {info.name!r} cannot be restored: {named}{more}.",
            remedy=f"{remedies[:1].upper()}{remedies[1:]}.",
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


def _machine(manifest: Manifest, criu: Criu) -> Iterator[Difference]:
    if manifest.machine != os.uname().machine:
        what = f"it was saved on {manifest.machine}, this is {os.uname().machine}"
        yield Difference(what, f"restore it on a {manifest.machine}, or {_AGAIN}")
        return
    missing = sorted(set(manifest.cpu) - set(cpu_features()))
    if missing:
        what = f"this processor lacks {', '.join(missing[:_NAMED])}"
        yield Difference(what, f"restore it on a machine that has it, or {_AGAIN}")
    if _release(criu.version) < _release(manifest.criu):
        what = f"CRIU {criu.version} is older than the {manifest.criu} that saved it"
        yield Difference(what, f"install CRIU {manifest.criu} or newer")


def _gpus(manifest: Manifest) -> Iterator[Difference]:
    if not manifest.gpu:
        return
    from zerostart_jupyter.snapshot.gpu import kernel as gpu

    for what in gpu.restorable(manifest.gpu):
        yield Difference(what, f"restore it where it was saved, or {_AGAIN}")


def _files(manifest: Manifest) -> Iterator[Difference]:
    for each in manifest.needed:
        try:
            found = os.stat(each.path)
        except OSError:
            yield Difference(f"{each.path} is gone", f"put it back, or {_AGAIN}")
            continue
        grown = each.size is not None and found.st_size != each.size
        touched = each.mtime is not None and found.st_mtime_ns != each.mtime
        if grown or (touched and not _same_build(each)):
            yield Difference(f"{each.path} has changed", f"put the old one back, or {_AGAIN}")


def _same_build(needed: Needed) -> bool:
    return needed.build_id is not None and elf.build_id(needed.path) == needed.build_id


def _memory(manifest: Manifest) -> Iterator[Difference]:
    free = room.memory()
    if manifest.bytes > free:
        what = f"it needs {size(manifest.bytes)} of memory, {size(free)} are free"
        yield Difference(what, "`del` large objects, or end other kernels")


def _disk(manifest: Manifest, directory: Path) -> Iterator[Difference]:
    """Deleted files that were open are made anew where they had been."""
    if not any(name.startswith(_GHOST) for name in manifest.digests):
        return
    from zerostart_jupyter.snapshot import images  # a restore has enough to import

    needed: Counter[int] = Counter()
    folders: dict[int, Path] = {}
    for path in images.ghosts(directory):
        length, _ = manifest.digests.get(f"{_GHOST}{path.suffixes[-2][1:]}.img", (0, ""))
        with contextlib.suppress(OSError):  # CRIU makes the folder
            device = os.stat(path.parent).st_dev
            folders[device] = path.parent
            needed[device] += length
    for device, count in needed.items():
        free = room.disk(folders[device])
        if count > free:
            what = f"it needs {size(count)} of room in {folders[device]}, {size(free)} are free"
            yield Difference(what, "delete what you no longer need there")


def _release(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split(".")[:2] if part.isdigit())
