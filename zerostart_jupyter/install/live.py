"""What the running interpreter already holds, and where a lock would contradict it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.install.imports import ImportNames, import_names
from zerostart_jupyter.install.lock import Lock

# setuptools' .pth file imports it into every interpreter; nothing of setuptools itself is in it.
_AT_STARTUP = {"_distutils_hack"}


@dataclass(frozen=True, slots=True)
class Conflict:
    """A distribution of which a module is imported, in another version than the lock's."""

    name: str
    version: str
    wanted: str
    module: str

    @property
    def constraint(self) -> str:
        """The requirement that keeps what is imported."""
        return f"{self.name}=={self.version}"


def conflicts(lock: Lock, paths: Iterable[str] | None = None) -> list[Conflict]:
    """The imported distributions that the lock has in another version."""
    present = installed(sys.path if paths is None else paths)
    found = []
    for locked in lock.packages:
        for version, dist_info in present.get(locked.name, []):
            module = _imported(dist_info) if version != locked.version else None
            if module is not None:
                found.append(Conflict(locked.name, version, locked.version, module))
                break
    return found


def named(found: Sequence[Conflict]) -> str:
    """All of them in a sentence: which module, of what, and what is needed instead."""
    return ", ".join(
        f"{each.module} from {each.name} {each.version} (needed: {each.wanted})" for each in found
    )


def shadowed(lock: Lock, paths: Iterable[str] | None = None) -> dict[str, ImportNames]:
    """What another version of a locked distribution, installed here, can be imported as."""
    present = installed(sys.path if paths is None else paths)
    found = {}
    for locked in lock.packages:
        for version, dist_info in present.get(locked.name, [])[:1]:
            if version != locked.version:
                found[locked.name] = _names(dist_info)
    return found


def installed(paths: Iterable[str]) -> dict[str, list[tuple[str, Path]]]:
    """Versions and dist-infos by name in the order of the path, told from directory names."""
    found: dict[str, list[tuple[str, Path]]] = {}
    for path in paths:
        try:
            entries = os.listdir(path or ".")
        except OSError:
            continue
        for entry in entries:
            if entry.endswith(".dist-info"):
                name, _, version = entry.removesuffix(".dist-info").partition("-")
                key = re.sub(r"[-_.]+", "-", name).lower()
                found.setdefault(key, []).append((version, Path(path) / entry))
    return found


def _imported(dist_info: Path) -> str | None:
    """The name of a module of this distribution that is imported, if any."""
    for root in sorted(_names(dist_info).roots.keys() - _AT_STARTUP):
        module = sys.modules.get(root)
        origin = getattr(module, "__file__", None)
        if origin and Path(origin).is_relative_to(dist_info.parent):
            return root
    return None


def _names(dist_info: Path) -> ImportNames:
    try:
        rows = (dist_info / "RECORD").read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError):
        return ImportNames()
    files = [row.partition(",")[0].strip('"') for row in rows]
    return import_names(f for f in files if not f.startswith(("..", "/", dist_info.name)))
