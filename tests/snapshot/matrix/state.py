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


@dataclass(frozen=True)
class State:
    """One kind of state: the cell that makes it, and how it is known to be right.

    `check` is a cell that gives True: in the kernel that was saved, which goes on, and in one that
    was restored. `restored` takes its place in restored kernels where these differ, and `differs`
    says how, for the table. With `refused` no save happens: the refusal names it with these words,
    and after the cell `undo` a save goes through; `needs` limits that to where the kernel lacks
    this capability. `beside` are the words that refuse a restore while another process still has
    it. `apart` says why it has a kernel of its own, with these variables in its environment.
    """

    name: str
    make: str = "pass"
    check: str = "True"
    restored: str = ""
    differs: str = ""
    refused: str = ""
    undo: str = ""
    needs: int | None = None
    beside: str = ""
    apart: str = ""
    environ: dict[str, str] = field(default_factory=dict)

    def __str__(self) -> str:
        return self.name

    @property
    def refused_here(self) -> bool:
        """Whether it cannot be saved on this machine."""
        if self.needs is None:
            return bool(self.refused)
        status = Path("/proc/self/status").read_text()
        effective = int(status.partition("CapEff:")[2].split()[0], 16)
        return not effective >> self.needs & 1
