"""Capabilities of this process (capabilities(7)): which it has, and what it hands on by exec.

A user who is not root in its user namespace loses them all at exec, but for the ambient ones.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

from zerostart_jupyter.snapshot import procfs
from zerostart_jupyter.snapshot.libc import call

NEEDED = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}  # linux/capability.h
_CAP_SETUID = 7
_VERSION_3 = 0x20080522  # of capget(2)'s header
_PR_CAP_AMBIENT, _RAISE, _CLEAR_ALL = 47, 2, 4  # prctl(2)
_LAST = Path("/proc/sys/kernel/cap_last_cap")


class _Header(ctypes.Structure):
    _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))


class _Data(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint32) for name in ("effective", "permitted", "inheritable"))


def missing() -> list[str]:
    """Which of those are not in effect that dumping a process takes."""
    effective = int(procfs.status("self").get("CapEff", "0"), 16)
    return [name for name, bit in NEEDED.items() if not effective >> bit & 1]


def hand_on() -> None:
    """Let what this process execs have its capabilities, all but CAP_SETUID.

    CRIU takes that one for leave to become user 0 before it restores, whom a namespace with one
    user does not have.
    """
    header, data = _current()
    for each in data:
        each.inheritable = each.permitted
    call("capset", ctypes.byref(header), data)
    for number in range(int(_LAST.read_text()) + 1):
        if number != _CAP_SETUID:
            call("prctl", _PR_CAP_AMBIENT, _RAISE, number, 0, 0)


def give_up() -> None:
    """Have none, nor let anything have any that this process execs."""
    call("prctl", _PR_CAP_AMBIENT, _CLEAR_ALL, 0, 0, 0)
    header, data = _current()
    for each in data:
        each.effective = each.permitted = each.inheritable = 0
    call("capset", ctypes.byref(header), data)


def _current() -> tuple[_Header, ctypes.Array[_Data]]:
    header, data = _Header(_VERSION_3, 0), (_Data * 2)()
    call("capget", ctypes.byref(header), data)
    return header, data
