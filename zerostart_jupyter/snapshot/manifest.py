"""What a snapshot says about itself beside its images: all that a restore needs and checks."""

from __future__ import annotations

import hashlib
import json
import os
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot import elf
from zerostart_jupyter.snapshot.backing import identity

SCHEMA = 1
FILE = "manifest.json"
IMAGES = "images"
_CONTENTS = ("pages-", "ghost-file-")  # of memory, and of deleted files
_BLOCK = 8 << 20  # bytes read at once for a digest


@dataclass(frozen=True, slots=True)
class Needed:
    """A file that must be there at the restore; `size` and `mtime` (ns) None where they may differ.

    `mtime` is noted for libraries: their unchanged pages are not in the image. One that was copied
    or installed anew since, on this machine or another, is known again by its `build_id`.
    """

    path: str
    size: int | None
    mtime: int | None
    build_id: str | None = None


@dataclass(frozen=True, slots=True)
class Manifest:
    """Everything but the summary the catalogue lists.

    `pid` is the kernel's in its pid namespace, `last_pid` the highest id in use there, `channel`
    the descriptors of its pipes, `inherited` CRIU's names of what its launcher had given it,
    `digests` the (bytes, sha256) of each image file, `memory` those of each file that restored
    processes map, by its path; `noted` what changes when a pages file is written to (see
    `backing`); `places` what must be free (see `occupied`), `terminals` whether it has some of its
    own; `sockets` the connections that closed; `gpu` the bytes and GPUs of
    `gpu.kernel.Gpu.as_json`, empty where none was used; `groups` its supplementary groups as its
    namespace has them, None in snapshots of before they were noted.
    """

    id: str
    pid: int
    last_pid: int
    channel: Mapping[str, int]
    criu: str
    inherited: tuple[str, ...] = ()
    needed: tuple[Needed, ...] = ()
    digests: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    memory: Mapping[str, tuple[int, str]] = field(default_factory=dict)
    noted: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    sockets: tuple[str, ...] = ()
    places: tuple[tuple[str, str, int, int], ...] = ()
    terminals: bool = False
    gpu: Mapping[str, Any] = field(default_factory=dict)
    machine: str = field(default_factory=lambda: os.uname().machine)
    cpu: tuple[str, ...] = ()
    groups: tuple[int, ...] | None = None
    python: str = sys.version.split()[0]
    schema: int = SCHEMA

    @property
    def bytes(self) -> int:
        """Size of all image files."""
        return sum(size for size, _ in self.digests.values())

    def write(self, directory: Path) -> str:
        """Put it into a snapshot's directory; returns its sha256, for the marker to know."""
        path = directory / FILE
        path.touch(mode=0o600)
        text = json.dumps(asdict(self)).encode()
        path.write_bytes(text)
        return hashlib.sha256(text).hexdigest()

    @classmethod
    def read(cls, directory: Path, sha256: str | None = None) -> Manifest:
        """That of a snapshot, whose marker may know its digest; raises SnapshotCorrupt."""
        try:
            text = (directory / FILE).read_bytes()
            if sha256 is not None and hashlib.sha256(text).hexdigest() != sha256:
                raise ValueError("it is not what was written")
            body: dict[str, Any] = json.loads(text)
            if body["schema"] != SCHEMA:
                raise SnapshotCorrupt(
                    f"The snapshot in {directory} has format {body['schema']}, not {SCHEMA}.",
                    remedy="Use the zerostart that saved it, or save it again.",
                )
            body["needed"] = tuple(Needed(**each) for each in body["needed"])
            for name in ("digests", "memory"):
                listed = body.get(name, {}).items()
                body[name] = {key: (int(count), str(sha)) for key, (count, sha) in listed}
            noted = body.get("noted", {}).items()
            body["noted"] = {name: tuple(map(int, each)) for name, each in noted}
            if body.get("groups") is not None:
                body["groups"] = tuple(map(int, body["groups"]))
            places = body.get("places", [])
            body["places"] = tuple((str(a), str(b), int(c), int(d)) for a, b, c, d in places)
            for name in ("inherited", "sockets", "cpu"):
                body[name] = tuple(body[name])
            return cls(**body)
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            if isinstance(error, SnapshotCorrupt):
                raise
            raise SnapshotCorrupt(
                f"The manifest of the snapshot in {directory} cannot be read.",
                remedy="Delete the snapshot and save it again.",
            ) from error


def digest(path: Path) -> tuple[int, str]:
    """Bytes and sha256 of a file."""
    sha, size = hashlib.sha256(), 0
    with path.open("rb", buffering=0) as stream:
        while block := stream.read(_BLOCK):
            sha.update(block)
            size += len(block)
    return size, sha.hexdigest()


def digests(directory: Path) -> dict[str, tuple[int, str]]:
    """Bytes and sha256 of every image file of a directory."""
    return {path.name: digest(path) for path in sorted(directory.glob("*.img"))}


def note(directory: Path) -> dict[str, tuple[int, ...]]:
    """Put the pages files on the disk, and say by what they are known to be unchanged."""
    found = {}
    for path in sorted(directory.glob("pages-*.img")):
        with path.open("rb") as stream:
            os.fsync(stream.fileno())
        found[path.name] = tuple(identity(path))
    return found


def verify(manifest: Manifest, directory: Path, *, thorough: bool = False) -> None:
    """Raise SnapshotCorrupt unless the image files are exactly those that were written.

    Pages files that nobody has written to since are read only if `thorough`.
    """
    verify_descriptions(manifest, directory)
    verify_contents(manifest, directory, thorough=thorough)


def verify_descriptions(manifest: Manifest, directory: Path) -> None:
    """The part of `verify` that CRIU acts on, which is small: what there is to be made."""
    present = {path.name for path in directory.glob("*.img")}
    for name in sorted(present ^ set(manifest.digests)):
        raise _damaged(name, "is missing" if name in manifest.digests else "was added")
    for name in manifest.digests:
        if not name.startswith(_CONTENTS):
            _compare(manifest, directory / name)


def verify_contents(manifest: Manifest, directory: Path, *, thorough: bool = False) -> None:
    """The other part of `verify`: what CRIU copies without a look at it."""
    for name in manifest.digests:
        if name.startswith(_CONTENTS):
            same = tuple(identity(directory / name)) == manifest.noted.get(name)
            if thorough or not same:
                _compare(manifest, directory / name)


def _compare(manifest: Manifest, path: Path) -> None:
    if digest(path) != manifest.digests[path.name]:
        raise _damaged(path.name, "is not what was written")


def needed(
    paths: Iterable[tuple[str, int | None, bool]],
    noted: Mapping[str, os.stat_result] = MappingProxyType({}),
) -> tuple[Needed, ...]:
    """What to check of (path, size, library) at a restore; special files are left out.

    `noted` is what paths led to at the time of the dump, where that is known.
    """
    found = {}
    for path, size, library in paths:
        if not path.startswith("/") or path.startswith(("/dev/", "/proc/", "/sys/")):
            continue
        try:
            now = os.stat(path)
        except OSError:
            now = None
        then = noted.get(path, now)
        if then is None:  # deleted while open: CRIU carries it inside the image
            continue
        if library:
            build = elf.build_id(path) if now is not None and _same(now, then) else None
            found[path] = Needed(path, size, then.st_mtime_ns, build)
        else:
            found[path] = Needed(path, size, None)
    return tuple(found[path] for path in sorted(found))


def _same(one: os.stat_result, other: os.stat_result) -> bool:
    return (one.st_dev, one.st_ino, one.st_mtime_ns) == (
        other.st_dev,
        other.st_ino,
        other.st_mtime_ns,
    )


def _damaged(name: str, how: str) -> SnapshotCorrupt:
    return SnapshotCorrupt(
        f"The snapshot's image file {name} {how}.",
        remedy="Delete the snapshot and save it again.",
    )
