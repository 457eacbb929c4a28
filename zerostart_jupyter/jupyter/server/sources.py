"""Status files as the server reads them: which kernel, which writer, what it says.

`<runtime>/zerostart/<connection file's stem>/<writer>.json`; see core/status. The files are read
as untrusted input: what cannot be understood is as good as absent, and so is what is a link or
another user's, in a runtime directory that several share.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.jupyter.server.wire import operations, undo

MAXIMUM = 8 << 20  # bytes of a status file that are still read
MOURNED = 30  # seconds for which a restore that failed is shown, though its writer has ended
ABANDONED = 60  # seconds after which a directory without any writer is removed

_KERNEL = re.compile(r"kernel-([\w.-]{1,200})")
_WRITER = re.compile(r"([a-z][a-z0-9_]{0,39})\.json")


@dataclass(frozen=True, slots=True)
class Source:
    """One writer's status file. `kernel` is the id Jupyter's server knows the kernel by."""

    kernel: str
    writer: str
    path: Path
    process: Process | None
    operations: list[dict[str, Any]]
    undo: dict[str, Any] | None = None
    parked: int | None = None  # bytes of GPU memory that the kernel has in the host's

    def failed_restore(self) -> dict[str, Any] | None:
        """The operation, if a restore was the last thing and has just failed, or been cancelled."""
        for each in self.operations[-1:]:
            recent = time.time() - each["updated"] < MOURNED
            if each["kind"] == "restore" and each["state"] in ("failed", "cancelled") and recent:
                return each
        return None

    def as_json(self) -> dict[str, Any]:
        """The object GET activity lists."""
        body = {"kernel": self.kernel, "writer": self.writer, "operations": self.operations}
        return body if self.undo is None else {**body, "undo": self.undo}


@dataclass(frozen=True, slots=True)
class Found:
    """A status file by its place and its stamp, which changes with every rewrite."""

    kernel: str
    writer: str
    path: Path
    stamp: tuple[int, int, int]

    def read(self) -> Source | None:
        """Its content; None while it is absent, too large or not what core/status writes."""
        try:
            text = _own(self.path)
            body = json.loads(text)
            process = Process.from_json(body["process"]) if "process" in body else None
            found = operations(body["operations"])
            points = undo(body.get("undo"))
            parked = int(body["parked"]["bytes"]) if "parked" in body else None
        except (OSError, LookupError, TypeError, ValueError, ArithmeticError, RecursionError):
            return None
        return Source(self.kernel, self.writer, self.path, process, found, points, parked)


def find(root: Path) -> Iterator[Found]:
    """Every status file below the root, in the order of its kernels' names."""
    for folder in _folders(root):
        kernel = _KERNEL.fullmatch(folder.name)
        if kernel is None:
            continue
        with contextlib.suppress(OSError), os.scandir(folder) as entries:
            for entry in entries:
                writer = _WRITER.fullmatch(entry.name)
                if writer is None:
                    continue
                status = entry.stat(follow_symlinks=False)
                if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
                    continue
                stamp = (status.st_mtime_ns, status.st_size, status.st_ino)
                yield Found(kernel[1], writer[1], Path(entry.path), stamp)


def bury(source: Source) -> bool:
    """Remove the file of a writer that ended; False if it lives or another has taken its place."""
    if source.process is None or source.process.alive() or source.failed_restore():
        return False
    grave = source.path.with_name(f".{source.path.name}.{os.getpid()}.ended")
    try:
        source.path.rename(grave)
    except OSError:
        return False
    moved = Found(source.kernel, source.writer, grave, (0, 0, 0)).read()
    if moved is not None and moved.process != source.process:
        # A new kernel wrote its own between our look and our rename: it goes back.
        with contextlib.suppress(OSError):
            os.link(grave, source.path)
        grave.unlink(missing_ok=True)
        return False
    grave.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        source.path.parent.rmdir()
    return True


def sweep(root: Path) -> int:
    """Remove directories that no writer has used for a while; returns how many."""
    removed = 0
    for folder in _folders(root):
        try:
            quiet = time.time() - folder.stat().st_mtime > ABANDONED
            if quiet and not any(name.endswith(".json") for name in os.listdir(folder)):
                shutil.rmtree(folder)
                removed += 1
        except OSError:  # somebody else was faster
            continue
    return removed


def _own(path: Path) -> bytes:
    """What one of this user's files says; raises OSError, and ValueError if it is too large."""
    # Asked of what is open: between a look and an open, a file can become a link or a pipe.
    opened = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with open(opened, "rb") as stream:
        status = os.fstat(opened)
        if not stat.S_ISREG(status.st_mode) or status.st_uid != os.geteuid():
            raise PermissionError(f"{path} is not a file of this user")
        text = stream.read(MAXIMUM + 1)
    if len(text) > MAXIMUM:
        raise ValueError(f"{path} is too large")
    return text


def _folders(root: Path) -> list[Path]:
    """The directories of this user below one of this user, by name."""
    try:
        names = sorted(os.listdir(root)) if _is_own_directory(root) else []
    except OSError:
        return []
    return [folder for name in names if _is_own_directory(folder := root / name)]


def _is_own_directory(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    return stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid()
