"""What /proc says of a process and its descendants; see proc(5).

Every reader takes a process that ends meanwhile for one that has nothing to tell.
"""

from __future__ import annotations

import contextlib
import os
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

PROC = Path("/proc")
_AT_ONCE = 1 << 16  # bytes


@dataclass(frozen=True, slots=True)
class Descriptor:
    """An open descriptor: where it leads, and its status flags as open(2) knows them."""

    pid: int
    number: int
    target: str
    flags: int

    @property
    def writable(self) -> bool:
        """Whether it was opened for writing."""
        return self.flags & os.O_ACCMODE != os.O_RDONLY

    @property
    def inode(self) -> int | None:
        """The number in `socket:[N]` and `pipe:[N]`; None for everything else."""
        kind, bracket, rest = self.target.partition(":[")
        return int(rest[:-1]) if bracket and kind in ("socket", "pipe") else None


def children(pid: int) -> list[int]:
    """The direct children of all threads of a process."""
    found: list[int] = []
    for task in _names(folder := f"/proc/{pid}/task"):
        found += map(int, _text(f"{folder}/{task}/children").split())
    return found


def tree(pid: int) -> list[int]:
    """The process and all its descendants, parents first."""
    found = [pid]
    for each in found:
        found += children(each)
    return found


def threads(pid: int) -> list[int]:
    """The ids of the threads of a process."""
    return [int(name) for name in _names(PROC / str(pid) / "task")]


def status(pid: int | str) -> dict[str, str]:
    """The fields of /proc/PID/status."""
    lines = _text(PROC / str(pid) / "status").splitlines()
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def session(pid: int) -> int | None:
    """The session of a process: field 6 of its stat.

    0 where its leader is outside this pid namespace, None if the process is gone.
    """
    fields = _text(PROC / str(pid) / "stat").rpartition(")")[2].split()
    return int(fields[3]) if fields else None


def command(pid: int) -> str:
    """The short name of a process, for messages."""
    return name(pid) or str(pid)


def name(tid: int) -> str:
    """That of a thread or process; empty if it has ended."""
    return _text(f"/proc/{tid}/comm").strip()


def age() -> float:
    """Seconds since this process began; proc_pid_stat(5), field 22."""
    fields = _text(PROC / "self" / "stat").rpartition(")")[2].split()
    return time.clock_gettime(time.CLOCK_BOOTTIME) - int(fields[19]) / os.sysconf("SC_CLK_TCK")


def descriptors(pid: int) -> Iterator[Descriptor]:
    """All open descriptors of a process."""
    for name in _names(PROC / str(pid) / "fd"):
        try:
            target = os.readlink(PROC / str(pid) / "fd" / name)
        except OSError:
            continue
        info = _text(PROC / str(pid) / "fdinfo" / name)
        flags = next((line for line in info.splitlines() if line.startswith("flags:")), "flags: 0")
        yield Descriptor(pid, int(name), target, int(flags.split()[1], 8))


def opened(pid: int | str = "self") -> dict[int, str]:
    """Where the open descriptors of a process lead, by number; in a tenth of the time."""
    folder = f"/proc/{pid}/fd"
    found = {}
    for name in _names(folder):
        with contextlib.suppress(OSError):
            found[int(name)] = os.readlink(f"{folder}/{name}")
    return found


def descriptor_info(pid: int, number: int) -> list[str]:
    """The lines of /proc/PID/fdinfo/NUMBER."""
    return _text(PROC / str(pid) / "fdinfo" / str(number)).splitlines()


def maps(pid: int) -> list[str]:
    """The lines of /proc/PID/maps."""
    return _text(PROC / str(pid) / "maps").splitlines()


def mapped(pid: int) -> set[str]:
    """Paths of the files a process has mapped."""
    # A path is the first thing on its line that has a slash.
    return {line[line.index("/") :] for line in maps(pid) if "/" in line}


def _names(folder: str | Path) -> list[str]:
    try:
        return os.listdir(folder)
    except OSError:
        return []


def _text(path: str | Path) -> str:
    try:
        opened = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return ""
    try:
        # A file object costs more than the few reads that these files take.
        parts = []
        while part := os.read(opened, _AT_ONCE):
            parts.append(part)
        return b"".join(parts).decode(errors="replace")
    except OSError:
        return ""
    finally:
        os.close(opened)
