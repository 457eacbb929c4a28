"""Runs CRIU (https://criu.org): found, new enough, never without a timeout."""

from __future__ import annotations

import contextlib
import errno
import os
import re
import select
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.core.errors import CriuFailed, CriuMissing, StoreError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot.launch import die_with_parent

# 4.1.1 cannot dump any TCP socket on today's kernels, 3.17 does not start.
MINIMUM = (4, 2)
TOOL = "criu"  # how the store's keys for an unpacked CRIU begin
REMEDY = "Run `zerostart setup criu`."
_ASK = "`zerostart doctor` says what works here."
_FULL = "Make room on the disk; `zerostart cache prune` removes what nothing uses."

_ASKED = "criu-version"  # the key of what the store's own CRIU answered
_PLACES = ("/usr/local/sbin", "/usr/sbin", "/sbin")
_PAUSE = 0.1  # seconds between two looks whether the user cancelled
_GRACE = 5.0  # seconds between asking CRIU to end and killing it
# CRIU notes these at error level and goes on.
_HARMLESS = (
    "rlimit: Can't setup RLIMIT_NOFILE",
    "Can't keep kdat cache",
    "net: Unexpected error: -1",
)
_NOISE = re.compile(r"^\(\d+\.\d+\)\s+(\d+:\s+)?Error \(\S+\):\s+")


@dataclass(frozen=True, slots=True)
class Criu:
    """A CRIU that runs here: its command line's beginning, and its version."""

    command: tuple[str, ...]
    version: str

    @property
    def new_enough(self) -> bool:
        """Whether it can dump kernels on today's Linux."""
        return _numbers(self.version) >= MINIMUM


def find(settings: Settings) -> Criu:
    """The CRIU to use: ZS_CRIU, one that `zerostart setup criu` unpacked, the system's.

    Raises CriuMissing that names what was found instead.
    """
    old: list[str] = []
    for command in _candidates(settings):
        criu = _answer(settings, command)
        if criu is not None and criu.new_enough:
            return criu
        if criu is not None:
            old.append(f"{command[-1]} is {criu.version}")
        elif settings.criu:
            raise CriuMissing(
                f"ZS_CRIU={settings.criu} is not a program that answers as CRIU.",
                remedy="Point it at CRIU 4.2 or newer, or unset it.",
            )
    found = f" ({', '.join(old)})" if old else ""
    raise CriuMissing(f"No CRIU 4.2 or newer was found{found}.", remedy=REMEDY)


def probe(command: Sequence[str]) -> Criu | None:
    """What answers to this command line; None if it is not CRIU."""
    try:
        answer = subprocess.run(
            [*command, "--version"], capture_output=True, text=True, timeout=10, check=False
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    named = re.search(r"^Version:\s*(\d[\w.]*)", answer.stdout, re.MULTILINE)
    return Criu(tuple(command), named[1]) if named else None


def unpacked(root: Path) -> list[str] | None:
    """The command line of a CRIU whose packages lie unpacked below root, under its own loader.

    None if there is none.
    """
    program = next(
        (p for p in (root / "usr/sbin/criu", root / "usr/bin/criu") if p.is_file()), None
    )
    loaders = sorted((root / "usr").glob("lib*/ld-linux-*.so.*")) or sorted(
        (root / "usr").glob("lib/*-linux-gnu*/ld-linux-*.so.*")
    )
    if program is None or not loaders:
        return None
    libraries = os.pathsep.join(map(str, sorted((root / "usr/lib").glob("*-linux-gnu*"))))
    return [str(loaders[0]), "--library-path", libraries, str(program)]


def run(
    criu: Criu,
    action: str,
    directory: Path,
    options: Sequence[str],
    *,
    log: Path,
    timeout: float,
    inherit: Sequence[int] = (),
    check: Callable[[], None] = lambda: None,
) -> None:
    """Run one action on the images of a directory and wait for it.

    `check` is called while waiting and may raise to give up; CRIU is then ended. `inherit` are
    descriptors it may hand on. Raises CriuFailed with the first error of its log.
    """
    plain = ["--unprivileged"] if os.geteuid() != 0 else []  # with a namespace's capabilities
    command = [
        *criu.command,
        action,
        *plain,
        "--images-dir",
        str(directory),
        "--log-file",
        str(log),
    ]
    with tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [*command, "-v2", *options],
            stdin=subprocess.DEVNULL,
            stdout=said,
            stderr=said,
            pass_fds=inherit,
            preexec_fn=die_with_parent,
        )
        try:
            _wait(process, timeout, check)
        except TimeoutError as error:
            raise CriuFailed(
                f"CRIU's {action} did not end within {timeout:.0f} s and was stopped.",
                remedy="Set ZS_CRIU_TIMEOUT to more seconds if the kernel is that large.",
            ) from error
        finally:
            _end(process)
        if process.returncode:
            said.seek(0)
            reason = first_error(log) or said.read().decode(errors="replace").strip()
            how = _how_it_ended(process.returncode)
            raise CriuFailed(
                f"CRIU's {action} {how}: {reason or 'it did not say why'}.",
                remedy=_FULL if os.strerror(errno.ENOSPC) in reason else _ASK,
            )


def first_error(log: Path) -> str:
    """The first error of CRIU's log without its decoration; "" if it has none."""
    try:
        lines = log.read_text(errors="replace").splitlines()
    except OSError:
        return ""
    for line in lines:
        if "Error (" in line and not any(each in line for each in _HARMLESS):
            return _NOISE.sub("", line).strip().rstrip(".")
    return ""


def _answer(settings: Settings, command: Sequence[str]) -> Criu | None:
    """As `probe`; one of the store's, which do not change, is asked once."""
    store = Store(settings.cache)
    path = Path(command[-1])
    if not path.is_relative_to(store.root):
        return probe(command)
    status = path.stat()
    asked = [*command, status.st_ino, status.st_size, status.st_mtime_ns]
    noted = store.get("probes", _ASKED)
    if noted is not None and noted.about.get("asked") == asked:
        return Criu(tuple(command), str(noted.about["version"]))
    found = probe(command)
    if found is not None:
        with contextlib.suppress(StoreError):  # a full disk: it is asked again
            store.remove("probes", _ASKED)
            with store.publish("probes", _ASKED, {"asked": asked, "version": found.version}):
                pass
    return found


def _candidates(settings: Settings) -> Iterator[list[str]]:
    if settings.criu:
        yield [settings.criu]
        return
    for entry in reversed(Store(settings.cache).entries("tools")):
        command = unpacked(entry.path) if entry.key.startswith(TOOL) else None
        if command:
            yield command
    seen = set()
    for path in (shutil.which("criu"), *(f"{place}/criu" for place in _PLACES)):
        if path and os.access(path, os.X_OK) and os.path.realpath(path) not in seen:
            seen.add(os.path.realpath(path))
            yield [path]


def _wait(process: subprocess.Popen[bytes], timeout: float, check: Callable[[], None]) -> None:
    # Popen.wait() with a timeout sleeps up to 50 ms too long; a pidfd wakes at once.
    ended = os.pidfd_open(process.pid)
    try:
        deadline = time.monotonic() + timeout
        while not select.select([ended], [], [], _PAUSE)[0]:
            check()
            if time.monotonic() > deadline:
                raise TimeoutError
    finally:
        os.close(ended)
    process.wait()


def _end(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(_GRACE)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _how_it_ended(code: int) -> str:
    return f"failed ({code})" if code > 0 else f"was killed ({signal.Signals(-code).name})"


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in re.findall(r"\d+", version)[:3])
