"""Where this kernel is: its connection file, its notebook, its status directory."""

from __future__ import annotations

import os
import sys
from pathlib import Path


def connection_file() -> Path | None:
    """The running kernel's connection file, or None in a terminal IPython."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    if kernelapp is None or not kernelapp.IPKernelApp.initialized():
        return None
    name = kernelapp.IPKernelApp.instance().abs_connection_file
    return Path(name) if name else None


def has_display() -> bool:
    """Whether what is displayed reaches a client of Jupyter, and not a terminal."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    return kernelapp is not None and kernelapp.IPKernelApp.initialized()


def at_a_prompt() -> bool:
    """Whether the cell that runs was typed into a console: IPython itself, or a client like one.

    Those (jupyter console, qtconsole) show a display once and leave out its updates. Notebooks name
    the cell they run, and who runs one unattended (nbclient, papermill) takes no input.
    """
    if not has_display():
        return True
    kernelapp = sys.modules["ipykernel.kernelapp"]
    request = kernelapp.IPKernelApp.instance().kernel.get_parent("shell") or {}
    notebook = "cellId" in request.get("metadata", {}) or "google.colab" in sys.modules
    return not notebook and bool(request.get("content", {}).get("allow_stdin"))


def status_directory(connection: Path) -> Path:
    """Where the status files of the kernel with this connection file lie.

    Named after the file and not after a pid: restored kernels live in pid namespaces and may
    share one.
    """
    from jupyter_core.paths import jupyter_runtime_dir

    return Path(jupyter_runtime_dir()) / "zerostart" / connection.stem


def notebook() -> Path | None:
    """The notebook this kernel belongs to, where the client says so.

    jupyter_server sets JPY_SESSION_NAME; VS Code defines `__vsc_ipynb_file__`.
    """
    main = sys.modules.get("__main__")
    named = getattr(main, "__vsc_ipynb_file__", None) or os.environ.get("JPY_SESSION_NAME")
    if not named or not str(named).endswith(".ipynb"):
        return None
    path = Path(named)
    if path.is_file():
        return path
    # The server names it relative to its root; the kernel starts in the notebook's folder.
    beside = Path.cwd() / path.name
    return beside if beside.is_file() else path
