"""What CRIU found out about this system's kernel, kept for it where it does not keep it itself.

CRIU asks the kernel dozens of questions before it begins (criu/kerndat.c), among them for a network
namespace of its own, which takes longer than all else a restore does. It keeps the answers in
/run/criu.kdat until the next boot, but only if that is on a tmpfs; in containers it seldom is.

So we keep them, for this boot and this CRIU. A restore has a mount namespace of its own, in which a
tmpfs covers /run until CRIU opens the file; and since that is a pipe, nothing else of CRIU, and
nothing that it restores, ever sees the cover.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot.libc import call

ROOM = "probes"
_KEY = "criu-kerndat"
_NAME = "criu.kdat"
_RUN = Path("/run")
_TMPFS_PLACE = Path("/dev/shm")
_BOOT = Path("/proc/sys/kernel/random/boot_id")
_MOUNTS = Path("/proc/self/mounts")
_PATIENCE = 30.0  # seconds for CRIU to find out
_LARGEST = 4096  # bytes that a pipe takes at once
_CLONE_NEWNS = 0x00020000  # sched.h
_MS_BIND, _MS_REC, _MS_PRIVATE = 0x1000, 0x4000, 0x40000  # mount(2)
_MNT_DETACH = 2  # umount(2)


def learn(store: Store, command: Sequence[str]) -> bool:
    """Have CRIU find out, unless that is known; False where it keeps it itself, or cannot.

    Nobody waits for this: after a save, or after a restore.
    """
    if os.geteuid() != 0 or _kept_by_criu() or known(store, command) is not None:
        return False
    try:
        folder = tempfile.mkdtemp(prefix="zerostart-", dir=_TMPFS_PLACE)
    except OSError:
        return False
    try:
        subprocess.run(
            [*command, "check", "--feature", "mem_dirty_track"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PATIENCE,
            preexec_fn=lambda: _put_over(folder),
            check=False,
        )
        found = Path(folder, _NAME).read_bytes()
        if 0 < len(found) <= _LARGEST:
            store.remove(ROOM, _KEY)
            with store.publish(ROOM, _KEY, _about(command)) as directory:
                (directory / _NAME).write_bytes(found)
            return True
    except (OSError, subprocess.SubprocessError, StoreError):
        pass  # then CRIU finds out each time
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    return False


def known(store: Store, command: Sequence[str]) -> bytes | None:
    """What this CRIU found out since the system started; None if nothing is known."""
    entry = store.get(ROOM, _KEY)
    try:
        if entry is not None and dict(entry.about) == _about(command):
            return (entry.path / _NAME).read_bytes()
    except OSError:
        pass
    return None


@contextlib.contextmanager
def offered(store: Store, command: Sequence[str], used: Sequence[Path]) -> Iterator[None]:
    """Let a CRIU that is started meanwhile, in our mount namespace, have what is known.

    `used` are the places it works with, which must not lie below /run.
    """
    found = None if _kept_by_criu() or any(map(_covered, used)) else known(store, command)
    if found is None or not _cover():
        yield
        return
    folder = os.open(_RUN, os.O_RDONLY | os.O_DIRECTORY)
    os.mkfifo(_NAME, 0o600, dir_fd=folder)
    giving = threading.Thread(target=_give, args=(folder, found))
    giving.start()
    try:
        yield
    finally:
        # A CRIU that never came for it leaves the thread waiting for a reader.
        with contextlib.suppress(OSError):
            os.close(os.open(_NAME, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder))
        giving.join()
        os.close(folder)


def _cover() -> bool:
    try:
        call("mount", b"none", os.fsencode(_RUN), b"tmpfs", 0, b"size=64k,mode=0700")
    except OSError:  # it costs no more than time
        return False
    return True


def _give(folder: int, found: bytes) -> None:
    pipe = os.open(_NAME, os.O_WRONLY, dir_fd=folder)  # waits until CRIU has opened it
    try:
        call("umount2", os.fsencode(_RUN), _MNT_DETACH)
        with contextlib.suppress(BrokenPipeError):
            os.write(pipe, found)
    finally:
        os.close(pipe)


def _put_over(folder: str) -> None:
    call("unshare", _CLONE_NEWNS)
    call("mount", b"none", b"/", None, _MS_REC | _MS_PRIVATE, None)
    call("mount", os.fsencode(folder), os.fsencode(_RUN), None, _MS_BIND, None)


def _kept_by_criu() -> bool:
    """Whether there is a file, or /run is a tmpfs, on which there will be one."""
    if (_RUN / _NAME).exists() or not _RUN.is_dir() or _RUN.is_symlink():
        return True
    mounts = (line.split()[1:3] for line in _MOUNTS.read_text().splitlines())
    return [str(_RUN), "tmpfs"] in mounts


def _covered(path: Path) -> bool:
    return path.resolve().is_relative_to(_RUN)


def _about(command: Sequence[str]) -> dict[str, object]:
    status = os.stat(command[-1])
    return {
        "boot": _BOOT.read_text().strip(),
        "criu": [*command, status.st_ino, status.st_size, status.st_mtime_ns],
    }
