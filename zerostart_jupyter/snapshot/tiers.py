"""Which kinds of snapshot are possible here, which is best, and why not the others."""

from __future__ import annotations

import sys
from dataclasses import dataclass

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import CriuMissing, NotPermitted, SnapshotRefused, StoreError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import criu, kernelspec, permission, privileges

PROCESS = "process"
PORTABLE = "portable"
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
        reason = "the whole process" if tier == "auto" else "it was asked for"
        return Choice(PROCESS, reason, choose(tier, settings))
    except (NotPermitted, CriuMissing) as error:
        if tier != "auto":
            raise
        reason = error.message.rstrip(".")
        if reason[1:2].islower():  # and no name of a setting
            reason = reason[:1].lower() + reason[1:]
        return Choice(PORTABLE, reason)


def choose(tier: str, settings: Settings) -> criu.Criu:
    """The CRIU to save a process with; raises before anything is frozen if it is not possible."""
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
    return _allowed(permission.to_save(), settings)


def for_restore(settings: Settings) -> criu.Criu:
    """The CRIU to restore a process with; raises NotPermitted or CriuMissing."""
    return _allowed(permission.to_restore(), settings)


def capabilities(settings: Settings | None = None) -> list[Capability]:
    """What works here, what does not, why, and the next step; changes nothing."""
    from zerostart_jupyter.snapshot import forkable  # a shepherd has no use for asyncio

    found = _criu(settings or Settings.read())
    allowed, spaces = permission.to_save(), permission.namespaces()
    portable = Capability(
        "snapshot: portable", True, "names, code and data, for any machine with this Python"
    )
    process = _process(found, allowed, spaces)
    return [found, allowed, spaces, process, forkable.capability(), portable, *gpu()]


def gpu() -> list[Capability]:
    """Whether GPU memory can be moved: parked, and saved with a process."""
    from zerostart_jupyter.snapshot.gpu import limits

    return limits.capabilities()


def _allowed(allowed: Capability, settings: Settings) -> criu.Criu:
    if not allowed:
        raise NotPermitted(allowed.reason, remedy=allowed.remedy)
    return criu.find(settings)


def _process(found: Capability, allowed: Capability, spaces: Capability) -> Capability:
    """Whether processes can be saved, of this kernel or of one started as it should be."""
    name = "snapshot: process"
    if found and allowed:
        return Capability(name, True, f"{found.reason}, {allowed.reason}")
    if not (privileges.missing() and spaces):
        first = next(each for each in (spaces, allowed, found) if not each)
        return Capability(name, False, first.reason, first.remedy)
    if found and kernelspec.installed() and not _in_a_kernel():
        return Capability(name, True, f"{found.reason}, in kernels of {kernelspec.DISPLAY_NAME!r}")
    first = found if not found else allowed
    return Capability(name, False, first.reason, first.remedy)


def _in_a_kernel() -> bool:
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    return kernelapp is not None and bool(kernelapp.IPKernelApp.initialized())


def _criu(settings: Settings) -> Capability:
    try:
        found = criu.find(settings)
    except (CriuMissing, StoreError) as error:
        return Capability("criu", False, error.message, error.remedy)
    return Capability("criu", True, f"CRIU {found.version} at {found.command[-1]}")
