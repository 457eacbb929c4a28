"""How much memory this process may still take, and how much room a disk has."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

_MEMORY = Path("/proc/meminfo")
_GROUP = Path("/proc/self/cgroup")
_GROUPS = Path("/sys/fs/cgroup")
_CACHED = ("active_file", "inactive_file")  # of memory.stat: what the system takes back first


def memory() -> float:
    """Bytes: what the machine has available, or a control group leaves, whichever is less.

    Infinite where nobody tells. See proc_meminfo(5) and the Linux kernel's admin-guide/cgroup-v2.
    """
    return min([float("inf"), *_available(), *_left()])


def disk(folder: Path) -> float:
    """Bytes that a user without privileges can still write there; infinite where nobody tells."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return float("inf")
    return found.f_bavail * found.f_frsize


def _available() -> Iterator[int]:
    for name, value in _numbers(_MEMORY):
        if name == "MemAvailable:":
            yield value << 10


def _left() -> Iterator[int]:
    """What is left to each of the control groups we are in, of either version."""
    try:
        lines = [line.split(":", 2) for line in _GROUP.read_text().splitlines()]
    except OSError:
        return
    for number, controllers, own in lines:
        if number == "0":
            root, most, used = _GROUPS, "memory.max", "memory.current"
        elif "memory" in controllers.split(","):
            root, most, used = _GROUPS / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"
        else:
            continue
        for each in (Path(own), *Path(own).parents):
            group = root / each.relative_to("/")
            try:
                left = int((group / most).read_text()) - int((group / used).read_text())
            except (OSError, ValueError):  # no limit, or none that we may know
                continue
            stat = dict(_numbers(group / "memory.stat"))
            yield max(0, left + sum(stat.get(name, 0) for name in _CACHED))


def _numbers(file: Path) -> Iterator[tuple[str, int]]:
    try:
        lines = file.read_text().splitlines()
    except OSError:
        return
    for line in lines:
        name, value, *_ = [*line.split(), "", ""]
        if value.isdecimal():
            yield name, int(value)
