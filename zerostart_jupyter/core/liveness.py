"""Who a process is, in a form that another process can check later, even from another namespace.

A pid alone is not enough: it is given away again, a container counts from 1 after every start, and
a restored kernel has a pid that means something else outside of its own namespace.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

_PROC = Path("/proc")


@dataclass(frozen=True, slots=True)
class Process:
    """A process as it sees itself.

    `born` is when it started, in clock ticks since boot (field 22 of proc(5)'s stat), `namespace`
    the inode of its pid namespace; both are empty where there is no /proc.
    """

    pid: int
    born: str
    namespace: str

    @classmethod
    def current(cls) -> Process:
        """The process that asks."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Process:
        """A process by its id in our pid namespace; one that is gone is not alive either."""
        return cls(pid, _born(str(pid)), _namespace("self"))

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Process:
        """What `as_json` gave; raises KeyError, TypeError or ValueError for anything else."""
        return cls(int(body["pid"]), str(body["born"]), str(body["namespace"]))

    def as_json(self) -> dict[str, Any]:
        """A plain object: pid, born, namespace."""
        return asdict(self)

    @property
    def near(self) -> bool:
        """Whether its pid means to us what it means to itself."""
        return self.namespace == _namespace("self")

    def alive(self) -> bool:
        """Whether it still runs. In a foreign namespace: whether anything there still does."""
        if self.near:
            return _runs(self.pid, self.born)
        return any(
            _namespace(entry) == self.namespace for entry in os.listdir(_PROC) if entry.isdigit()
        )


def _runs(pid: int, born: str) -> bool:
    if not _PROC.joinpath("self").exists():
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return True
    return _born(str(pid)) == born != ""


def _born(pid: str) -> str:
    """When a process started; "" if there is none or it only waits to be reaped."""
    try:
        fields = (_PROC / pid / "stat").read_text().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _namespace(pid: str) -> str:
    try:
        return os.readlink(_PROC / pid / "ns" / "pid")
    except OSError:
        return ""
