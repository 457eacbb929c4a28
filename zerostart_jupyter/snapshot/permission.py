"""Who may dump and restore a process here, and which setting forbids it to an ordinary user."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import NotPermitted
from zerostart_jupyter.snapshot import kernelspec, privileges, procfs
from zerostart_jupyter.snapshot.launch import command, environment

NAME = "snapshot: permission"
NAMESPACES = "snapshot: user namespaces"
HOW = (
    f"Run `zerostart setup kernel` once and choose the kernel {kernelspec.DISPLAY_NAME!r}; "
    "running kernels can be saved by their names."
)
_SYSCTL = Path("/proc/sys")
_PATIENCE = 30.0  # seconds for a trial that takes milliseconds
# A setting -> the value that forbids namespaces to ordinary users, and one that allows them.
_SETTINGS = {
    "kernel/unprivileged_userns_clone": ("0", "1"),  # Debian's
    "user/max_user_namespaces": ("0", "15000"),
    "user/max_pid_namespaces": ("0", "15000"),
    "user/max_mnt_namespaces": ("0", "15000"),
    "kernel/apparmor_restrict_unprivileged_userns": ("1", "0"),  # Ubuntu's
}


def to_save() -> Capability:
    """Whether this process may have itself dumped."""
    found = _of_anybody()
    if found is not None:
        return found
    from zerostart_jupyter.snapshot import revival

    if revival.shepherd() is not None:
        return Capability(NAME, True, "its user may dump it in the namespace it was started in")
    return Capability(
        NAME,
        False,
        "An ordinary user may only dump kernels that were started in a namespace of their own.",
        HOW,
    )


def to_restore() -> Capability:
    """Whether this user may restore a process, as far as that is known without trying."""
    found = _of_anybody()
    if found is not None:
        return found
    return Capability(NAME, True, "an ordinary user may restore in a namespace of its own")


def namespaces() -> Capability:
    """Whether an ordinary user may have namespaces here, by trying; which setting forbids it."""
    if sys.platform != "linux":
        return Capability(NAMESPACES, False, "Namespaces are Linux's.", "Use Linux.")
    if not privileges.missing():
        forbidden = _of_settings()
        allowed = Capability(NAMESPACES, True, "allowed to ordinary users")
        return allowed if forbidden is None else forbidden
    tried = subprocess.run(
        command("isolation"),
        env=environment(),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=_PATIENCE,
        check=False,
    )
    if tried.returncode == 0:
        return Capability(NAMESPACES, True, "allowed to this user")
    number, _, step = tried.stdout.strip().partition(" ")
    return explain(int(number) if number.isdecimal() else 0, step)


def explain(number: int, step: str) -> Capability:
    """Why a namespace was refused: the errno, and the call or the file that it came from."""
    for found in (_of_settings(), _of_filter()):
        if found is not None:
            return found
    reason = os.strerror(number) if number else "it did not say why"
    if step == "mount":
        return Capability(
            NAMESPACES,
            False,
            "A part of /proc is masked, as in a container, so no namespace can have its own.",
            "Start the container with `--security-opt systempaths=unconfined`.",
        )
    if number == errno.EINVAL:
        return Capability(
            NAMESPACES,
            False,
            "This Linux was built without user namespaces (CONFIG_USER_NS).",
            "Use `--tier portable`, or another machine.",
        )
    if number == errno.ENOSPC:
        reason = "a limit below /proc/sys/user is reached, or a container nests too deep"
    return Capability(
        NAMESPACES,
        False,
        f"A namespace was refused at {step or 'the start'}: {reason}.",
        "Ask whoever runs this machine to allow user namespaces, or use `--tier portable`.",
    )


def not_permitted(error: OSError) -> NotPermitted:
    """The error for a namespace that was refused, with the setting that forbids it."""
    if not privileges.missing():
        return NotPermitted(
            f"This system does not allow a namespace of its own for a kernel ({error.strerror}).",
            remedy="`zerostart doctor` says what works here.",
        )
    found = explain(error.errno or 0, str(error.filename or ""))
    return NotPermitted(found.reason, remedy=found.remedy)


def _of_anybody() -> Capability | None:
    """What holds for root and for all; None for an ordinary user, for whom it depends."""
    if sys.platform != "linux":
        return Capability(NAME, False, "Kernels can only be dumped on Linux.", "Use Linux.")
    missing = privileges.missing()
    if missing and os.geteuid() == 0:
        return Capability(
            NAME,
            False,
            f"This container withholds {', '.join(missing)}.",
            "Start it with `--privileged`.",
        )
    if procfs.status("self").get("Seccomp", "0") != "0":
        return Capability(
            NAME,
            False,
            "A seccomp filter is active, which CRIU cannot suspend from inside.",
            "Start the container with `--security-opt seccomp=unconfined`.",
        )
    return None if missing else Capability(NAME, True, "root may dump and restore")


def _of_settings() -> Capability | None:
    for switch, (forbids, allows) in _SETTINGS.items():
        try:
            value = (_SYSCTL / switch).read_text().strip()
        except OSError:
            continue
        if value == forbids:
            setting = switch.replace("/", ".")
            return Capability(
                NAMESPACES,
                False,
                f"{setting}={value} forbids them to ordinary users.",
                f"An administrator may run `sysctl {setting}={allows}`.",
            )
    return None


def _of_filter() -> Capability | None:
    if procfs.status("self").get("Seccomp", "0") == "0":
        return None
    return Capability(
        NAMESPACES,
        False,
        "This container's seccomp filter forbids them.",
        "Start the container with `--security-opt seccomp=unconfined`.",
    )
