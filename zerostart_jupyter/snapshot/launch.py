"""Processes of our own: how they are started, and what ends them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import site
import sys
import sysconfig
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1


def command(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module of this package; `-P` keeps the notebook's folder out."""
    return [sys.executable, "-P", "-m", f"zerostart_jupyter.snapshot.{module}", *arguments]


def python_path() -> str | None:
    """What PYTHONPATH must hold for this package to be found, None if it is installed."""
    root = Path(__file__).resolve().parents[2]
    paths = sysconfig.get_paths()
    installed = {paths["purelib"], paths["platlib"], site.getusersitepackages()}
    return None if str(root) in {os.path.realpath(path) for path in installed} else str(root)


def environment() -> dict[str, str]:
    """The environment for such a process: ours, with this package on the path."""
    undebugged()
    root = python_path()
    if root is None:
        return dict(os.environ)
    known = [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]
    return os.environ | {
        "PYTHONPATH": os.pathsep.join([root, *(path for path in known if path != root)])
    }


def undebugged() -> None:
    """Have a debugger leave alone what this thread starts from now on, or becomes by exec.

    debugpy's changes the command line of every Python, which would wait for the debugger then.
    """
    patches: Any = sys.modules.get("_pydev_bundle.pydev_monkey")
    if patches is not None:
        patches._arg_patch.apply_arg_patching = False  # as pydevd.skip_subprocess_arg_patch()


def compile_modules() -> None:
    """Have the modules of our processes compiled, as installers do; in silence where we may not.

    Where nobody did, and PYTHONDONTWRITEBYTECODE is set as in many containers, each of our
    processes would compile them again.
    """
    import compileall

    root = Path(__file__).resolve().parents[1]
    for folder in (root, root / "core", root / "snapshot"):
        compileall.compile_dir(folder, maxlevels=0, quiet=2)


def die_with_parent() -> None:
    """Have the system kill this process when the thread that started it ends; prctl(2).

    For `preexec_fn`, or first thing in a forked child.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)


def end_like(status: int) -> int:
    """The exit code for this wait status; a signal ends us as it ended the kernel."""
    code = os.waitstatus_to_exitcode(status)
    if code < 0:
        with contextlib.suppress(OSError):
            signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code


def status_directory(connection_file: Path) -> Path:
    """Where the status files of the kernel with this connection file lie."""
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir()) / "zerostart" / connection_file.stem
