"""What of a process tree CRIU could not dump, or could dump but never restore: named beforehand."""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import procfs, undumpable, unixsockets
from zerostart_jupyter.snapshot.procfs import Descriptor

# what a descriptor leads to -> what a person knows it as, and how to be rid of it
_KINDS = {
    "anon_inode:[io_uring]": ("an io_uring", "Close what uses io_uring"),
    "anon_inode:[userfaultfd]": ("a userfaultfd", "Close it"),
    "anon_inode:[fanotify]": ("a fanotify watch", "Close it"),
    "anon_inode:[perf_event]": ("a perf event", "Stop the profiler"),
    "anon_inode:bpf-map": ("a BPF map", "Close it"),
    "anon_inode:bpf-prog": ("a BPF program", "Close it"),
    "anon_inode:kvm-vm": ("a virtual machine", "Stop it"),
}
_NVIDIA = "/dev/nvidia"
_DEVICES = {
    _NVIDIA: ("an NVIDIA device that is not CUDA's", "Call pynvml.nvmlShutdown(), or end graphics"),
    "/dev/kfd": ("an AMD GPU", "Save with `--tier portable`"),
    "/dev/fuse": ("a FUSE filesystem", "Unmount it"),
    "/dev/kvm": ("a virtual machine", "Stop it"),
}


@dataclass(frozen=True, slots=True)
class Obstacle:
    """Something in the way: what holds it, what it is, what to do."""

    who: str
    what: str
    remedy: str


def obstacles(
    pid: int,
    inherited: Sequence[str] = (),
    own: Collection[int | str] = (),
    *,
    cuda: bool = False,
    leaving: Collection[int] = (),
) -> Iterator[Obstacle]:
    """Everything of the process and its descendants that is in the way.

    `inherited` are targets of descriptors that its launcher gave it: a restore replaces them.
    `own` holds the paths the kernel itself listens at. With `cuda` the driver will take GPU memory
    out of these processes first, and closes their devices. Those that are `leaving` will have ended
    by the time of the dump.
    """
    pids = [each for each in procfs.tree(pid) if each not in leaving]
    yield from _of_processes(pid, pids)
    opened = [each for one in pids for each in procfs.descriptors(one)]
    for each in opened:
        for prefix, (what, remedy) in (_KINDS | _DEVICES).items():
            if each.target.startswith(prefix) and not (cuda and prefix == _NVIDIA):
                yield Obstacle(_who(each.pid), what, remedy)
    ending = {each.inode for one in leaving for each in procfs.descriptors(one)}
    yield from _outside_sockets(opened, inherited, own, ending)
    for pid, what, remedy in undumpable.belongings(pids, opened, inherited):
        yield Obstacle(_who(pid), what, remedy)


def examine(
    pid: int,
    inherited: Sequence[str] = (),
    own: Collection[int | str] = (),
    *,
    cuda: bool = False,
    leaving: Collection[int] = (),
) -> None:
    """Raise SnapshotRefused that names all obstacles; nothing is frozen."""
    found = list(dict.fromkeys(obstacles(pid, inherited, own, cuda=cuda, leaving=leaving)))
    if found:
        raise SnapshotRefused(
            "This kernel cannot be saved: "
            + "; ".join(f"{each.who} holds {each.what}" for each in found)
            + ".",
            remedy=". ".join(dict.fromkeys(each.remedy for each in found)) + ", and save again.",
        )


def terminals(pid: int) -> list[Descriptor]:
    """Descriptors of the tree on a terminal that somebody else runs."""
    opened = [each for one in procfs.tree(pid) for each in procfs.descriptors(one)]
    own = _own(opened)
    return [
        each
        for each in opened
        if (each.target.startswith("/dev/pts/") and each.target.rpartition("/")[2] not in own)
        or each.target.startswith("/dev/tty")
    ]


def own_terminals(pid: int) -> bool:
    """Whether the tree runs terminals itself."""
    return bool(_own(each for one in procfs.tree(pid) for each in procfs.descriptors(one)))


def _own(opened: Iterable[Descriptor]) -> set[str]:
    """The numbers of the terminals whose other end is among these."""
    own = set()
    for each in opened:
        if each.target.endswith("/ptmx"):
            info = procfs.descriptor_info(each.pid, each.number)
            own |= {line.split()[1] for line in info if line.startswith("tty-index")}
    return own


def connections(pid: int) -> list[str]:
    """Remote ends of the TCP connections of the tree, which a restored kernel finds closed."""
    inodes = {
        each.inode
        for one in procfs.tree(pid)
        for each in procfs.descriptors(one)
        if each.target.startswith("socket:")
    }
    found = []
    for table, family in (("tcp", socket.AF_INET), ("tcp6", socket.AF_INET6)):
        for line in _lines(Path(f"/proc/{pid}/net/{table}")):
            fields = line.split()
            if fields[3] == "01" and int(fields[9]) in inodes:  # established
                host, port = fields[2].split(":")
                found.append(f"{_address(family, host)}:{int(port, 16)}")
    return sorted(set(found))


def _of_processes(root: int, pids: Sequence[int]) -> Iterator[Obstacle]:
    if root == 1:
        yield Obstacle(
            "the kernel",
            "process id 1 of its container",
            "Start the container with an init (docker run --init)",
        )
    sessions = {*pids, None}
    for pid in pids:
        if procfs.session(pid) not in sessions:
            yield Obstacle(
                _who(pid), "a session of another program", "Start the kernel from Jupyter"
            )
        tracer = int(procfs.status(pid).get("TracerPid", "0"))
        if tracer:
            yield Obstacle(
                _who(pid), f"a tracer ({procfs.command(tracer)})", "Detach gdb or strace"
            )


def _outside_sockets(
    opened: Sequence[Descriptor],
    inherited: Sequence[str],
    own: Collection[int | str],
    ending: Collection[int | None],
) -> Iterator[Obstacle]:
    inodes = {each.inode: each for each in opened if each.target.startswith("socket:")}
    for inode, peer in unixsockets.peers().items():
        holder = inodes.get(inode)
        if holder is None or peer in inodes or peer in ending or holder.target in inherited:
            continue
        path = _listener(inode, peer)
        if path not in own:
            what = f"a unix socket to {path or 'another program'}"
            yield Obstacle(_who(holder.pid), what, "Close that connection")


def _listener(inode: int, peer: int) -> str:
    """The path the one or the other side is bound to; "" where neither has one."""
    for line in _lines(Path("/proc/self/net/unix")):
        fields = line.split()
        if len(fields) > 7 and int(fields[6]) in (inode, peer):
            return fields[7]
    return ""


def _who(pid: int) -> str:
    return "the kernel" if pid == os.getpid() else f"process {pid} ({procfs.command(pid)})"


def _lines(path: Path) -> list[str]:
    try:
        return path.read_text(errors="replace").splitlines()[1:]
    except OSError:
        return []


def _address(family: socket.AddressFamily, text: str) -> str:
    # The kernel prints each 32-bit word in its own byte order.
    words = [int(text[at : at + 8], 16) for at in range(0, len(text), 8)]
    return socket.inet_ntop(family, struct.pack(f"={len(words)}I", *words))
