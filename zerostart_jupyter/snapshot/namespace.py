"""Process id 1 of a restored kernel: makes its pid and mount namespaces, restores, reaps, relays.

A kernel comes back with the process ids it had, so each needs a pid namespace of its own; with
it come any number of clones, and an end to all of a kernel's processes at once. It talks to the
shepherd over one socket, on which it relays what the kernel says and hears.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import ctypes
import os
import selectors
import shutil
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NoReturn

from zerostart_jupyter.core.errors import NotPermitted
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import backing, wire
from zerostart_jupyter.snapshot.backing import Backed
from zerostart_jupyter.snapshot.criu import Criu, run
from zerostart_jupyter.snapshot.launch import die_with_parent
from zerostart_jupyter.snapshot.manifest import IMAGES, Manifest, verify

OPTIONS = (
    "--restore-detached",
    "--restore-sibling",
    "--leave-stopped",  # until the digests are known to be right
    "--tcp-close",
    "--file-locks",
    "--manage-cgroups=ignore",
)
_CLONE_NEWNS, _CLONE_NEWPID = 0x00020000, 0x20000000  # sched.h
_MS_REC, _MS_PRIVATE = 0x4000, 0x40000  # mount(2)
_MS_NOSUID, _MS_NODEV, _MS_NOEXEC = 2, 4, 8
_ROOM = 500  # process ids left free above those of the images, for CRIU's own


def main() -> int:
    """As a program: the shepherd is not there yet, and the kernel that asks will become it."""
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
    os.setsid()  # an interrupt of the shepherd's group is not for us
    die_with_parent()
    if os.getppid() != parent:
        os._exit(1)
    with contextlib.suppress(OSError):
        try:
            _call("unshare", _CLONE_NEWPID)
        except OSError as error:
            wire.send(control, wire.describe(_not_permitted(error)))
            os._exit(1)
    inner = os.fork()
    if inner == 0:
        code = 1
        try:
            code = _first(control)
        finally:
            os._exit(code)
    os.close(control)
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    os._exit(os.waitstatus_to_exitcode(os.waitpid(inner, 0)[1]) & 0xFF)


def _first(control: int) -> int:
    """What process id 1 does. Its end is the end of everything in the namespace."""
    die_with_parent()
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_DFL)  # which process id 1 never receives
    woken, waker = socket.socketpair()
    woken.setblocking(False)
    waker.setblocking(False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.set_wakeup_fd(waker.fileno(), warn_on_full_buffer=False)
    reader = wire.Reader(control)
    try:
        order = reader.wait()
        _own_mounts()
        manifest = Manifest.read(Path(order["path"]), order["digest"])
        # Until we end, and all kernels here with us: they map these files.
        _leases = backing.hold(_store(order), manifest.memory)
        _restore(order, manifest)
        kernel = _Kernel(manifest)
    except EOFError:
        return 1
    except BaseException as error:
        wire.send(control, wire.describe(error))
        return 1
    wire.send(control, {"kind": "restored", "pid": manifest.pid})
    return _relay(kernel, reader, woken)


def _store(order: wire.Message) -> Store:
    return Store(Path(order["path"]).parents[1])


def _own_mounts() -> None:
    try:
        _call("unshare", _CLONE_NEWNS)
        _call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
        flags = _MS_NOSUID | _MS_NODEV | _MS_NOEXEC
        _call("mount", b"proc", b"/proc", b"proc", flags, None)
    except OSError as error:
        raise _not_permitted(error) from error


def _own_terminals() -> None:
    """Terminals keep their numbers, which others may have outside; see the kernel's devpts.rst."""
    flags = _MS_NOSUID | _MS_NOEXEC
    _call("mount", b"devpts", b"/dev/pts", b"devpts", flags, b"newinstance,ptmxmode=0666,mode=0620")


def _restore(order: wire.Message, manifest: Manifest) -> None:
    """Bring the processes back, and let them run once every byte is known to be right."""
    path = Path(order["path"])
    _leave_room(manifest)
    memory = [Backed(Path(name), *of) for name, of in manifest.memory.items()]
    criu = Criu(tuple(order["criu"]), manifest.criu)
    work = Path(tempfile.mkdtemp(prefix="zerostart-restore-"))
    try:
        with concurrent.futures.ThreadPoolExecutor(1) as pool, _stand_ins(manifest) as given:
            backing.verify(_store(order), memory)
            verdict = pool.submit(verify, manifest, path / IMAGES)
            if manifest.terminals:
                _own_terminals()
            options = [f"fd[{number}]:{name}" for name, number in given.items()]
            try:
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


def _leave_room(manifest: Manifest) -> None:
    """Number CRIU's own processes above those of the images, or they could meet."""
    highest = int(Path("/proc/sys/kernel/pid_max").read_text())
    if manifest.last_pid + _ROOM < highest:
        Path("/proc/sys/kernel/ns_last_pid").write_text(str(manifest.last_pid + _ROOM // 2))


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


class _Kernel:
    """The restored kernel, stopped at the pipe it was dumped at."""

    def __init__(self, manifest: Manifest) -> None:
        self.pid = manifest.pid
        self._to = wire.reach(self.pid, manifest.channel["to"], os.O_WRONLY)
        self.reader = wire.Reader(wire.reach(self.pid, manifest.channel["from"], os.O_RDONLY))

    def tell(self, message: wire.Message) -> None:
        wire.send(self._to, message)


def _relay(kernel: _Kernel, shepherd: wire.Reader, woken: socket.socket) -> int:
    selector = selectors.DefaultSelector()
    for each in (kernel.reader, shepherd, woken):
        selector.register(each, selectors.EVENT_READ)
    while True:
        for key, _ in selector.select():
            if key.fileobj is kernel.reader:
                try:
                    for message in kernel.reader.take():
                        wire.send(shepherd.descriptor, message)
                except EOFError:  # it ended, and is about to be reaped
                    selector.unregister(kernel.reader)
            elif key.fileobj is shepherd:
                try:
                    for message in shepherd.take():
                        kernel.tell(message)
                except EOFError:
                    return 1
            else:
                with contextlib.suppress(BlockingIOError):
                    woken.recv(4096)
                ended = _reap(kernel.pid)
                if ended is not None:
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


def _call(function: str, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{function}: {os.strerror(number)}")


def _not_permitted(error: OSError) -> NotPermitted:
    return NotPermitted(
        f"This system does not allow a namespace of its own for a kernel ({error.strerror}).",
        remedy="`zerostart doctor` says what works here.",
    )


if __name__ == "__main__":
    sys.exit(main())
