"""What a row of the dump matrix is."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

# Cells find these names: a folder of the test's own, a TCP port and a unix socket of a server
# outside, `libc`, and the modules that many need.
PRELUDE = """
import asyncio, ctypes, fcntl, mmap, os, pathlib, select, signal, socket, struct, subprocess, sys
import threading, time
here, outside, outside_path = pathlib.Path({here!r}), {port}, {path!r}
libc = ctypes.CDLL(None, use_errno=True)
libc.syscall.restype = ctypes.c_long
def called(result):
    if result == -1: raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return result
"""

DELETED = "deleted but mapped, which only root can dump"  # as an ordinary user's kernel is told


@dataclass(frozen=True)
class State:
    """One kind of state: the cell that makes it, and how it is known to be right.

    `check` is a cell that gives True: in the kernel that was saved, which goes on, and in one that
    was restored. `restored` takes its place in restored kernels where these differ, and `differs`
    says how, for the table. With `refused` no save happens: the refusal names it with these words,
    and after the cell `undo` a save goes through; `needs` limits that to where the kernel lacks
    this capability, and `rootless` are the words for an ordinary user alone. A state that only
    `root` can make has no row for others. `beside` are the words that refuse a restore while
    another process still has it. With `debugged` a debugger is attached meanwhile, over the
    kernel's control channel. `apart` says why it has a kernel of its own, with these variables in
    its environment.
    """

    name: str
    make: str = "pass"
    check: str = "True"
    restored: str = ""
    differs: str = ""
    refused: str = ""
    undo: str = ""
    needs: int | None = None
    rootless: str = ""
    root: bool = False
    beside: str = ""
    debugged: bool = False
    apart: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    def refusal(self, *, ordinary: bool) -> str:
        """The words with which it is refused on this machine; empty where it can be saved."""
        if ordinary and self.rootless:
            return self.rootless
        return "" if self.needs is not None and _may(self.needs) else self.refused


def _may(capability: int) -> bool:
    status = Path("/proc/self/status").read_text()
    effective = int(status.partition("CapEff:")[2].split()[0], 16)
    return bool(effective >> capability & 1)
