"""What CRIU cannot dump and no descriptor's name tells, found by a closer look."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.snapshot import copies, privileges, procfs
from zerostart_jupyter.snapshot.procfs import Descriptor

_CLOSE = "Close it"
_SHARED = "End what shares it (multiprocessing's pools and queues, a DataLoader's workers)"
_FAMILIES = (socket.AF_UNIX, socket.AF_INET, socket.AF_INET6, socket.AF_NETLINK, socket.AF_PACKET)
_SPACES = {
    "mnt": "mount",
    "net": "network",
    "uts": "host name",
    "ipc": "IPC",
    "user": "user",
    "pid": "process id",
    "cgroup": "cgroup",
    "time": "time",
}
_CAP_SYS_RESOURCE = 24  # linux/capability.h; CRIU asks for the limits of each process
_NO_FILE = ("/memfd:", "/dev/zero", "/SYSV", "/[aio]", "/anon_hugepage")
_DELETED = " (deleted)"
_INOTIFY = "anon_inode:inotify"
_ROOT_ONLY = "which only root can dump"  # outside of namespaces

Found = tuple[int, str, str]  # process, what it has, how to be rid of it


def belongings(
    pids: Sequence[int], opened: Sequence[Descriptor], inherited: Collection[str] = ()
) -> Iterator[Found]:
    """What is in the way of a dump of these processes and their descriptors.

    `inherited` are targets of descriptors that a restore replaces.
    """
    limited = bool(privileges.missing())
    yield from _processes(pids, limited=limited)
    yield from _sockets(pids)
    for pid in pids:
        yield from _memory(pid, limited=limited)
    mounts = _mounts(pids[0])
    for each in opened:
        if each.target not in inherited:
            yield from _descriptor(each, pids, mounts)
        # CRIU finds what is watched by open_by_handle_at(2).
        if limited and each.target == _INOTIFY and "inotify wd" in _info(each):
            yield each.pid, f"inotify watches, {_ROOT_ONLY}", "Stop what watches files"
        # It belongs to a user and a group that an ordinary user's namespace does not know.
        if limited and each.target.endswith("/ptmx") and each.target not in inherited:
            yield each.pid, "a terminal of its own, which only root can restore", "End what runs it"


def _processes(pids: Sequence[int], *, limited: bool) -> Iterator[Found]:
    root = pids[0]
    spaces = {name: _space(root, name) for name in _SPACES}
    own = procfs.status(root)
    strict = not int(own.get("CapEff", "0"), 16) >> _CAP_SYS_RESOURCE & 1
    for pid in pids[1:]:
        for name, what in _SPACES.items():
            found = _space(pid, name)
            if found and found != spaces[name]:
                yield pid, f"a {what} namespace of its own", "End it"
        status = procfs.status(pid)
        # CRIU suspends it while it looks inside, which takes root outside of namespaces.
        if limited and status.get("Seccomp", "0") != "0":
            yield pid, f"a seccomp filter, {_ROOT_ONLY}", "End it"
        user = status.get("Uid", "")
        if strict and user and user != own.get("Uid"):
            yield pid, "another user's rights (and CAP_SYS_RESOURCE is withheld here)", "End it"


def _space(pid: int, name: str) -> str:
    with contextlib.suppress(OSError):
        return os.readlink(f"/proc/{pid}/ns/{name}")
    return ""


def _sockets(pids: Sequence[int]) -> Iterator[Found]:
    for pid in pids:
        with contextlib.suppress(SnapshotError):  # another user's: those have none of ours
            for each in copies.sockets(pid):
                with each:
                    if each.family not in _FAMILIES:
                        name = getattr(each.family, "name", f"family {each.family}")
                        yield pid, f"a socket of {name}", _CLOSE


def _memory(pid: int, *, limited: bool) -> Iterator[Found]:
    for line in procfs.maps(pid):
        fields = line.split(maxsplit=5)
        path = fields[5] if len(fields) == 6 else ""
        if path.startswith("/SYSV"):
            yield pid, "System V shared memory", "Detach it"
        elif path.endswith(_DELETED) and not path.startswith(_NO_FILE):
            name = path.removesuffix(_DELETED)
            if _lives_on(Path(name), int(fields[4])):
                yield pid, f"{name}, deleted, whose file has another name", _CLOSE
            elif limited:  # CRIU opens it through /proc/PID/map_files
                yield pid, f"{name}, deleted but mapped, {_ROOT_ONLY}", _SHARED


def _lives_on(deleted: Path, inode: int) -> bool:
    """Whether another name in the same folder leads to this file."""
    with contextlib.suppress(OSError), os.scandir(deleted.parent) as names:
        return any(each.inode() == inode for each in names)
    return False


def _descriptor(each: Descriptor, pids: Sequence[int], mounts: frozenset[int]) -> Iterator[Found]:
    info = _info(each)
    if "Pid" in info:
        other = int(info["Pid"])
        if other > 0 and other not in pids:
            yield each.pid, f"a pidfd of another program ({procfs.command(other)})", _CLOSE
    elif each.target.startswith("/") and not each.target.startswith(_NO_FILE):
        name = each.target.removesuffix(_DELETED)
        if mounts and int(info.get("mnt_id", "0")) not in mounts | {0}:
            yield each.pid, f"{name}, which is on no mount that can be seen here", _CLOSE
        elif name != each.target and _links(each):
            yield each.pid, f"{name}, deleted, whose file has another name", _CLOSE


def _links(each: Descriptor) -> int:
    with contextlib.suppress(OSError):
        return os.stat(f"/proc/{each.pid}/fd/{each.number}").st_nlink
    return 0


def _info(each: Descriptor) -> dict[str, str]:
    lines = procfs.descriptor_info(each.pid, each.number)
    return {name: value.strip() for name, _, value in (line.partition(":") for line in lines)}


def _mounts(pid: int) -> frozenset[int]:
    with contextlib.suppress(OSError):
        lines = Path(f"/proc/{pid}/mountinfo").read_text(errors="replace").splitlines()
        return frozenset(int(line.split()[0]) for line in lines)
    return frozenset()
