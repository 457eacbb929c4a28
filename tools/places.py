"""What doctor says in the places people work in: its own code, asked as if it were there.

The kernel, the driver and the packages of a place are stood in for at the seams where doctor looks
at them; what it makes of that is what a user there would read.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import os
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest.mock import patch

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.doctor import doctor
from zerostart_jupyter.load import availability, pages
from zerostart_jupyter.snapshot import criu, permission, procfs, revival
from zerostart_jupyter.snapshot.gpu import devices, finding

_EVERY = "000001ffffffffff"
_DOCKERS = "00000000a80425fb"  # what a container's root has by default
_CRIU = criu.Criu(("criu",), "4.2.1")
_ALLOWED = Capability(permission.NAMESPACES, True, "allowed to this user")
_NO_GPU = GpuFailed("This machine has no NVIDIA driver.", remedy="Use a machine with a GPU.")


@dataclass(frozen=True, slots=True)
class Place:
    """A kind of machine, by what /proc says of a process there."""

    name: str
    user: int
    capabilities: str = "0"  # CapEff of proc(5)
    seccomp: str = "0"
    gpu: bool = False
    isolated: bool = False  # in a kernel that our launcher started

    def finds(self) -> dict[str, Capability]:
        """Doctor's lines there, by name."""
        with contextlib.ExitStack() as stack:
            for each in self._stand_ins():
                stack.enter_context(each)
            stack.enter_context(_cache())
            return {each.name: each for each in doctor()}

    def _stand_ins(self) -> Iterator[Any]:
        status = {"CapEff": self.capabilities, "Seccomp": self.seccomp}
        yield patch.object(procfs, "status", lambda pid: status)
        yield patch.object(os, "geteuid", lambda: self.user)
        yield patch.object(permission, "_SYSCTL", Path(os.devnull))  # nothing is forbidden
        yield patch.object(permission, "namespaces", lambda: _ALLOWED)
        yield patch.object(revival, "shepherd", lambda: object() if self.isolated else None)
        yield patch.object(criu, "find", lambda settings: _CRIU)
        yield patch.object(pages, "can_populate", lambda: True)
        yield patch.object(devices, "read", self._gpus)
        yield patch.object(finding, "_module", lambda path: self.gpu)
        yield patch.object(importlib.util, "find_spec", self._module(importlib.util.find_spec))
        yield patch.object(availability, "NVIDIA_FS", Path(os.devnull if self.gpu else "/none"))
        if self.gpu:
            yield patch.object(ctypes, "CDLL", lambda name, **options: None)

    def _gpus(self) -> devices.Machine:
        if not self.gpu:
            raise _NO_GPU
        gpu = devices.Device("GPU-0", "a GPU", 0, 80 << 30)
        return devices.Machine("580.0", (gpu,))

    def _module(self, otherwise: Any) -> Any:
        there: Mapping[str, object] = {"torch": True, "kvikio": self.gpu or None}
        return lambda name, *more: there[name] if name in there else otherwise(name, *more)


@contextlib.contextmanager
def _cache() -> Iterator[None]:
    with tempfile.TemporaryDirectory() as folder, patch.dict(os.environ, ZEROSTART_CACHE=folder):
        yield


PLACES = (
    Place("laptop or server, ordinary user", 1000),
    Place('the same, kernel "Python 3 (zerostart)"', 1000, isolated=True),
    Place("VM or machine, root", 0, _EVERY),
    Place("container", 0, _DOCKERS, "2"),
    Place("container, `--privileged`", 0, _EVERY),
    Place("root and an NVIDIA GPU", 0, _EVERY, gpu=True),
)

# What people do → the line of doctor's that decides it.
DECIDED_BY = {
    "`%zs_install`": "uv",
    "`%zs_load` on the CPU": "load.mmap",
    "`%zs_load` straight to a GPU": "load.cufile",
    "`%zs_snapshot`, the whole process": "snapshot: process",
    "`%zs_snapshot`, by its names": "snapshot: portable",
    "`%zs_snapshot undo`, without a CUDA context": "snapshot: fork",
    "`%zs_snapshot park`": "snapshot: park",
}
