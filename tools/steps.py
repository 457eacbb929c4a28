"""Steps of the set-up: each says what it does and how long it took, and is not done twice."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMPS = VENV / "setup"

Word = str | os.PathLike[str]


class Failed(Exception):
    """A step cannot be done; the message says what to do."""


def say(text: str) -> None:
    print(text, flush=True)


@contextlib.contextmanager
def step(name: str) -> Iterator[None]:
    """Announce a step, and say how long it took or that it failed."""
    say(f"▸ {name}")
    start = time.monotonic()
    try:
        yield
    except BaseException:
        say(f"  failed after {time.monotonic() - start:.1f} s")
        raise
    say(f"  {time.monotonic() - start:.1f} s")


def run(
    command: Sequence[Word],
    *,
    environ: Mapping[str, str] | None = None,
    folder: Path = ROOT,
    quiet: bool = False,
) -> None:
    """Run a command; when `quiet`, what it prints is shown only if it fails."""
    ran = subprocess.run(
        [os.fspath(part) for part in command],
        cwd=folder,
        env=with_venv(environ),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if quiet else None,
        stderr=subprocess.STDOUT if quiet else None,
        text=True,
        check=False,
    )
    if ran.returncode:
        say(ran.stdout or "")
        raise Failed(f"`{' '.join(map(str, command))}` ended with {ran.returncode}.")


@contextlib.contextmanager
def workplace(prefix: str) -> Iterator[Path]:
    """A folder on the project's own disk, removed afterwards."""
    (ROOT / ".work").mkdir(exist_ok=True)
    folder = Path(tempfile.mkdtemp(prefix=prefix, dir=ROOT / ".work"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def with_venv(environ: Mapping[str, str] | None = None) -> dict[str, str]:
    """The environment with the virtual environment's programs first: its node, its jlpm."""
    path = f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"
    return {**os.environ, "VIRTUAL_ENV": str(VENV), "PATH": path, **(environ or {})}


def digest(paths: Iterable[Path], *words: str) -> str:
    """The sha256 of files (folders: of everything git would keep in them) and words."""
    total = hashlib.sha256("\0".join(words).encode())
    for path in sorted(paths):
        for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
            if file.is_file():
                total.update(str(file.relative_to(ROOT)).encode())
                total.update(file.read_bytes())
    return total.hexdigest()


def done(name: str, stamp: str) -> bool:
    """Whether the step with this stamp went well before."""
    try:
        return (STAMPS / name).read_text() == stamp
    except OSError:
        return False


@contextlib.contextmanager
def once(name: str, stamp: str) -> Iterator[bool]:
    """True if the step with this stamp is still to be done; noted when it went well."""
    needed = not done(name, stamp)
    yield needed
    if needed:
        STAMPS.mkdir(parents=True, exist_ok=True)
        (STAMPS / name).write_text(stamp)


def root() -> bool:
    return os.geteuid() == 0


def apt_install(*packages: str) -> None:
    """Install Debian packages; raises Failed with the command where that takes root."""
    command = f"apt-get install {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise Failed(f"Install {', '.join(packages)} with this system's package manager.")
    if not root():
        raise Failed(f"This needs root: run `sudo {command}` once.")
    quiet = {"DEBIAN_FRONTEND": "noninteractive"}
    run(["apt-get", "update", "-q"], environ=quiet, quiet=True)
    run(
        ["apt-get", "install", "-q", "-y", "--no-install-recommends", *packages],
        environ=quiet,
        quiet=True,
    )


def main_guard(main: Callable[[], None]) -> None:
    """Run `main`; a step that cannot be done ends it in one line."""
    try:
        main()
    except Failed as error:
        sys.exit(f"✗ {error}")
