"""Process id 1 of a restored kernel: makes its pid and mount namespaces, restores, reaps, relays.

A kernel comes back with the process ids it had, so each needs a pid namespace of its own; with
it come any number of clones, and an end to all of a kernel's processes at once. It talks to the
shepherd over one socket, on which it relays what the kernel says and hears.
"""

from __future__ import annotations

import contextlib
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import backing, ghosts, helper, isolation, kerndat, wire
from zerostart_jupyter.snapshot.backing import Backed
from zerostart_jupyter.snapshot.criu import Criu, run
from zerostart_jupyter.snapshot.door import Door
from zerostart_jupyter.snapshot.isolation import MS_NOEXEC, MS_NOSUID
from zerostart_jupyter.snapshot.launch import die_with_parent
from zerostart_jupyter.snapshot.libc import call
from zerostart_jupyter.snapshot.manifest import (
    IMAGES,
    Manifest,
    verify_contents,
    verify_descriptions,
)
from zerostart_jupyter.snapshot.streams import Forward

OPTIONS = (
    "--restore-detached",
    "--restore-sibling",
    "--leave-stopped",  # until the digests are known to be right
    "--tcp-close",
    "--file-locks",
    "--manage-cgroups=ignore",
)
_ROOM = 500  # process ids left free above those of the images, for CRIU's own


def main() -> int:
    """As a program: the shepherd is not there yet, and the kernel that asks will become it."""
    import argparse

    parser = argparse.ArgumentParser()
    parser.add_argument("--control", type=int, required=True)
    parser.add_argument("--parent", type=int, required=True)
    given = parser.parse_args()
    enter(given.control, given.parent)


def enter(control: int, parent: int) -> NoReturn:
    """Become the process outside the namespace that waits for the one inside; never returns.

    The order comes over the control socket: `path` of the snapshot, `digest` of its
    manifest, `criu`, `timeout`.
    """
    isolation.enter(control, parent, _first)


def _first(control: int) -> int:
    """What process id 1 does. Its end is the end of everything in the namespace."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # which process id 1 never receives
    reader = wire.Reader(control)
    try:
        isolation.settle()
        order = reader.wait()
        manifest = Manifest.read(Path(order["path"]), order["digest"])
        # Until we end, and all kernels here with us: they map these files.
        _leases = backing.hold(_store(order), manifest.memory)
        _restore(order, manifest)
        kernel = Kernel(manifest.pid, manifest.channel)
    except EOFError:
        return 1
    except BaseException as error:
        wire.send(control, wire.describe(error))
        return 1
    wire.send(control, {"kind": "restored", "pid": manifest.pid})
    return serve(kernel, reader, Door())


def _store(order: wire.Message) -> Store:
    return Store(Path(order["path"]).parents[1])


def _own_terminals() -> None:
    """Terminals keep their numbers, which others may have outside; see the kernel's devpts.rst."""
    options = b"newinstance,ptmxmode=0666,mode=0620"
    call("mount", b"devpts", b"/dev/pts", b"devpts", MS_NOSUID | MS_NOEXEC, options)


def _restore(order: wire.Message, manifest: Manifest) -> None:
    """Bring the processes back, and let them run once every byte is known to be right."""
    path = Path(order["path"])
    _examine_groups(manifest)
    _leave_room(manifest)
    memory = [Backed(Path(name), *of) for name, of in manifest.memory.items()]
    criu = Criu(tuple(order["criu"]), manifest.criu)
    work = Path(tempfile.mkdtemp(prefix="zerostart-restore-"))
    try:
        with _stand_ins(manifest) as given:
            store = _store(order)
            backing.verify(store, memory)
            verify_descriptions(manifest, path / IMAGES)  # or CRIU makes whatever they say
            verdict = _Verdict(manifest, path / IMAGES)
            verdict.start()
            if manifest.terminals:
                _own_terminals()
            options = [f"fd[{number}]:{name}" for name, number in given.items()]
            try:
                with (
                    ghosts.places(store, path / IMAGES, order["timeout"]),
                    kerndat.offered(store, criu.command, [path, work, Path(criu.command[0])]),
                ):
                    run(
                        criu,
                        "restore",
                        path / IMAGES,
                        [
                            *("--work-dir", str(work), *OPTIONS),
                            *(word for option in options for word in ("--inherit-fd", option)),
                        ],
                        log=work / "restore.log",
                        timeout=order["timeout"],
                        inherit=list(given.values()),
                    )
            finally:
                verdict.result()  # says more than what CRIU makes of a damaged image
        os.kill(-1, signal.SIGCONT)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _examine_groups(manifest: Manifest) -> None:
    """CRIU would wait for ever for what it may not set in an ordinary user's namespace."""
    known = manifest.groups
    if os.geteuid() != 0 and known is not None and tuple(os.getgroups()) != known:
        raise SnapshotRefused(
            "It was saved by a login with other groups, which an ordinary user may not change.",
            remedy="Log in as you were when you saved it, or re-run the notebook.",
        )


class _Verdict(threading.Thread):
    """Reads and checks what CRIU copies, while it is at work."""

    def __init__(self, manifest: Manifest, images: Path) -> None:
        super().__init__(daemon=True)
        self._manifest = manifest
        self._images = images
        self._wrong: BaseException | None = None

    def run(self) -> None:
        try:
            verify_contents(self._manifest, self._images)
        except BaseException as error:
            self._wrong = error

    def result(self) -> None:
        """Wait for it; raises what was wrong."""
        self.join()
        if self._wrong is not None:
            raise self._wrong


def _leave_room(manifest: Manifest) -> None:
    """Number CRIU's own processes above those of the images, or they could meet."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    if manifest.last_pid + _ROOM < highest:
        isolation.LAST_PID.write_text(str(manifest.last_pid + _ROOM // 2))


@contextlib.contextmanager
def _stand_ins(manifest: Manifest) -> Iterator[dict[str, int]]:
    """Something to be where the kernel's launcher was: the kernel replaces it when it wakes up."""
    given: dict[str, int] = {}
    opened: list[int] = []
    try:
        for name in manifest.inherited:
            if name.startswith("tty["):
                main, side = os.openpty()
                opened.append(main)
            else:
                side = os.open(os.devnull, os.O_RDWR)
            opened.append(side)
            given[name] = side
        yield given
    finally:
        for descriptor in opened:
            os.close(descriptor)


class Kernel:
    """The kernel of this namespace, and the way to it once its channel is known.

    A restored one is stopped at the pipe it was dumped at; one that was started says at the door
    what its channel is, if it ever does.
    """

    def __init__(self, pid: int, channel: Mapping[str, int] | None = None) -> None:
        self.pid = pid
        self.reader: wire.Reader | None = None
        self._to: int | None = None
        if channel is not None:
            self.connect(channel)

    def connect(self, channel: Mapping[str, int]) -> wire.Reader:
        """Talk to it through these descriptors of its own."""
        self._to = wire.reach(self.pid, channel["to"], os.O_WRONLY)
        self.reader = wire.Reader(wire.reach(self.pid, channel["from"], os.O_RDONLY))
        return self.reader

    def tell(self, message: wire.Message) -> None:
        """Send it something; one without a channel does not listen."""
        if self._to is not None:
            wire.send(self._to, message)


def serve(
    kernel: Kernel, shepherd: wire.Reader, door: Door, forwards: Sequence[Forward] = ()
) -> int:
    """Relay, reap, start helpers and pass outputs on until the kernel has ended."""
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    waker.send(b"\0")  # what ended before this
    selector = selectors.DefaultSelector()
    for each in (kernel.reader, shepherd, woken, door, *forwards):
        if each is not None:
            selector.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is kernel.reader:
                try:
                    for message in kernel.reader.take():
                        if message["kind"] == "dumper":
                            kernel.tell(helper.begin_for(message))
                        else:
                            wire.send(shepherd.descriptor, message)
                except EOFError:  # it ended, and is about to be reaped
                    selector.unregister(kernel.reader)
            elif key.fileobj is shepherd:
                try:
                    for message in shepherd.take():
                        kernel.tell(message | {"door": door.name})
                except EOFError:
                    return 1
            elif isinstance(key.fileobj, Forward):
                if not key.fileobj.pass_on():
                    selector.unregister(key.fileobj)
            elif key.fileobj is door:
                channel = door.serve(kernel.pid)
                if channel is not None and kernel.reader is None:
                    selector.register(kernel.connect(channel), selectors.EVENT_READ)
            else:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                ended = _reap(kernel.pid)
                if ended is not None:
                    for last in forwards:
                        last.pass_on()
                    wire.send(shepherd.descriptor, {"kind": "exited", "status": ended})
                    return 0


def _reap(kernel: int) -> int | None:
    """Collect all that ended; the kernel's wait status once it is among them."""
    found = None
    while True:
        try:
            pid, status = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return found
        if pid == 0:
            return found
        if pid == kernel:
            found = status


if __name__ == "__main__":
    sys.exit(main())
