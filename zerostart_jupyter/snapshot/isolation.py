"""Namespaces of its own for a kernel: pid and mount, and for an ordinary user a user namespace.

Run as a program it makes them, says what came of it, and ends: this is how doctor knows.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

from zerostart_jupyter.snapshot import privileges, wire
from zerostart_jupyter.snapshot.launch import die_with_parent
from zerostart_jupyter.snapshot.libc import call

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWPID = 0x00020000, 0x10000000, 0x20000000  # sched.h
_MS_REC, _MS_SLAVE = 0x4000, 0x80000  # mount(2)
MS_NOSUID, MS_NODEV, MS_NOEXEC = 2, 4, 8
LAST_PID = Path("/proc/sys/kernel/ns_last_pid")


def enter(control: int, parent: int, first: Callable[[int], int]) -> NoReturn:
    """Become the process outside the namespace that waits for the one inside; never returns.

    `first` is what process 1 does, which gets `control`, the socket to the shepherd. What forbids
    the namespace is told there.
    """
    os.setsid()  # an interrupt of the shepherd's group is not for us
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    try:
        _unshare()
    except OSError as error:
        from zerostart_jupyter.snapshot.permission import not_permitted

        with contextlib.suppress(OSError):
            wire.send(control, wire.describe(not_permitted(error)))
        os._exit(1)
    inner = os.fork()
    if inner == 0:
        code = 1
        try:
            code = first(control)
        finally:
            os._exit(code)
    os.close(control)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)


def settle() -> None:
    """As process 1, take mounts of its own, and be able to start CRIU; raises NotPermitted."""
    try:
        _own_mounts()
        if os.geteuid() != 0:
            privileges.hand_on()
    except OSError as error:
        from zerostart_jupyter.snapshot.permission import not_permitted

        raise not_permitted(error) from error


def _own_mounts() -> None:
    """Take a mount namespace with a /proc of this pid namespace; raises OSError.

    What is mounted outside later appears here too.
    """
    call("unshare", _CLONE_NEWNS)
    call("mount", b"none", b"/", None, _MS_REC | _MS_SLAVE, None)
    call("mount", b"proc", b"/proc", b"proc", MS_NOSUID | MS_NODEV | MS_NOEXEC, None)


def _unshare() -> None:
    """Have the next child be process 1 of a pid namespace, which an ordinary user owns then."""
    if not privileges.missing():
        call("unshare", _CLONE_NEWPID)
        return
    user, group = os.geteuid(), os.getegid()
    call("unshare", _CLONE_NEWUSER | _CLONE_NEWPID)
    # One's own id may be mapped by anybody; user_namespaces(7) wants setgroups(2) denied first.
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{user} {user} 1")
    Path("/proc/self/gid_map").write_text(f"{group} {group} 1")


def _try() -> int:
    try:
        _unshare()
        inner = os.fork()
        if inner:
            return os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1])
        _own_mounts()
        LAST_PID.write_text("1")
    except OSError as error:
        print(error.errno, error.filename)
        return 1
    return 0


if __name__ == "__main__":
    code = 1
    try:
        code = _try()
    finally:
        sys.stdout.flush()
        os._exit(code)
