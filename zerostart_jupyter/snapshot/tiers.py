"""Which kinds of snapshot are possible here, which is best, and why not the others."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import CriuMissing, NotPermitted, SnapshotRefused, StoreError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import criu, procfs

PROCESS = "process"
PORTABLE = "portable"
_CAPABILITIES = {"CAP_SYS_PTRACE": 19, "CAP_SYS_ADMIN": 21}  # linux/capability.h
_SYSCTL = Path("/proc/sys")
_TAKEN = ("auto", PROCESS, PORTABLE)


@dataclass(frozen=True, slots=True)
class Choice:
    """The tier of a save and why it is that one; `criu` for the process tier."""

    tier: str
    reason: str
    criu: criu.Criu | None = None


def best(tier: str, settings: Settings) -> Choice:
    """The tier to save with: the one asked for, or with "auto" the best that works here.

    Raises as `choose` does.
    """
    if tier == PORTABLE:
        return Choice(PORTABLE, "it was asked for")
    try:
        return Choice(PROCESS, "the whole process can be saved here", choose(tier, settings))
    except (NotPermitted, CriuMissing) as error:
        if tier != "auto":
            raise
        reason = error.message.rstrip(".")
        if reason[1:2].islower():  # and no name of a setting
            reason = reason[:1].lower() + reason[1:]
        return Choice(PORTABLE, reason)


def choose(tier: str, settings: Settings) -> criu.Criu:
    """The CRIU for the process tier; raises before anything is frozen if it is not possible."""
    if tier == "fork":
        raise SnapshotRefused(
            "The fork tier keeps undo points and no names.", remedy="Run `%zs_snapshot auto on`."
        )
    if tier == "park":
        raise SnapshotRefused(
            "Parking keeps a kernel and makes no snapshot.", remedy="Run `%zs_snapshot park`."
        )
    if tier not in _TAKEN:
        raise SnapshotRefused(
            f"There is no tier {tier!r}.",
            remedy="Use `--tier auto`, `--tier process` or `--tier portable`.",
        )
    allowed = permission()
    if not allowed:
        raise NotPermitted(allowed.reason, remedy=allowed.remedy)
    return criu.find(settings)


def capabilities(settings: Settings | None = None) -> list[Capability]:
    """What works here, what does not, why, and the next step; changes nothing."""
    from zerostart_jupyter.snapshot import forkable  # a shepherd has no use for asyncio

    found = _criu(settings or Settings.read())
    allowed = permission()
    if found and allowed:
        process = Capability("snapshot: process", True, f"{found.reason}, {allowed.reason}")
    else:
        first = allowed if not allowed else found
        process = Capability("snapshot: process", False, first.reason, first.remedy)
    portable = Capability(
        "snapshot: portable", True, "names, code and data, for any machine with this Python"
    )
    return [found, allowed, _namespaces(), process, forkable.capability(), portable, *gpu()]


def gpu() -> list[Capability]:
    """Whether GPU memory can be moved: parked, and saved with a process."""
    from zerostart_jupyter.snapshot.gpu import limits

    return limits.capabilities()


def permission() -> Capability:
    """Whether this process may freeze, dump and restore another."""
    name = "snapshot: permission"
    if sys.platform != "linux":
        return Capability(name, False, "Kernels can only be dumped on Linux.", "Use Linux.")
    status = procfs.status("self")
    effective = int(status.get("CapEff", "0"), 16)
    missing = [name for name, bit in _CAPABILITIES.items() if not effective >> bit & 1]
    if missing and os.geteuid() != 0:
        return Capability(
            name,
            False,
            "An ordinary user may not dump a process.",
            "Run Jupyter as root in a container or virtual machine of its own.",
        )
    if missing:
        return Capability(
            name,
            False,
            f"This container withholds {', '.join(missing)}.",
            "Start it with `--privileged`.",
        )
    if status.get("Seccomp", "0") != "0":
        return Capability(
            name,
            False,
            "A seccomp filter is active, which CRIU cannot suspend from inside.",
            "Start the container with `--security-opt seccomp=unconfined`.",
        )
    return Capability(name, True, "root may dump and restore")


def _criu(settings: Settings) -> Capability:
    try:
        found = criu.find(settings)
    except (CriuMissing, StoreError) as error:
        return Capability("criu", False, error.message, error.remedy)
    return Capability("criu", True, f"CRIU {found.version} at {found.command[-1]}")


def _namespaces() -> Capability:
    name = "snapshot: user namespaces"
    switches = {
        "kernel/unprivileged_userns_clone": "0",
        "user/max_user_namespaces": "0",
        "kernel/apparmor_restrict_unprivileged_userns": "1",
    }
    for switch, forbids in switches.items():
        path = _SYSCTL / switch
        try:
            value = path.read_text().strip()
        except OSError:
            continue
        if value == forbids:
            setting = switch.replace("/", ".")
            return Capability(
                name,
                False,
                f"{setting}={value} forbids them to ordinary users.",
                f"An administrator may run `sysctl {setting}={1 - int(forbids)}`.",
            )
    return Capability(name, True, "allowed to ordinary users")
