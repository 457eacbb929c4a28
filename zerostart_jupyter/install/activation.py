"""What the interpreter that uses an environment needs of it: its places, and `sys.path`."""

from __future__ import annotations

import contextlib
import sys
from pathlib import Path

from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.install import children, inherited
from zerostart_jupyter.install.entering import enter

ROOM = "environments"
OURS = ".zerostart"
PYTHON = f"python{sys.version_info.major}.{sys.version_info.minor}"


def site_of(root: Path) -> Path:
    """Where an environment's packages are imported from."""
    return root / "lib" / PYTHON / "site-packages"


def landed(root: Path, name: str) -> Path:
    """The marker of a distribution; it exists once all of its files do."""
    return root / OURS / "landed" / name


def last_used(root: Path) -> float | None:
    """When an environment was last handed out, in seconds since the epoch."""
    try:
        return (root / OURS / "used").stat().st_mtime
    except OSError:
        return None


def use(root: Path) -> None:
    """Note that an environment is handed out now: what is long unused is pruned."""
    with contextlib.suppress(OSError):
        (root / OURS).mkdir(parents=True, exist_ok=True)
        (root / OURS / "used").touch()


def activate(root: Path) -> None:
    """Put an environment before everything that was installed, here and in subprocesses."""
    use(root)
    site, programs = str(site_of(root)), str(root / "bin")
    ours = str(children.prepare(root, site_of(root)))
    enter(site, programs, ours, whole=(root / MARKER).exists())
    inherited.look_again()
