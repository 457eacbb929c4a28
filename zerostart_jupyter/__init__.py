"""zerostart for Jupyter: packages that stream in, weights at disk speed, kernels that come back.

Importing this package costs nothing: every public name is resolved on first use, so that
`%load_ext zerostart` brings in neither an HTTP client nor torch.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

# public name -> the module that defines it
_HOMES = {
    "install": "zerostart_jupyter.install",
    "load": "zerostart_jupyter.load",
    "load_into": "zerostart_jupyter.load",
    "snapshot": "zerostart_jupyter.snapshot",
    "restore": "zerostart_jupyter.snapshot",
    "snapshots": "zerostart_jupyter.snapshot",
    "doctor": "zerostart_jupyter.doctor",
    "ZerostartError": "zerostart_jupyter.core.errors",
}

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension", *_HOMES]


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(home), name)


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; called by `%load_ext zerostart`."""
    from zerostart_jupyter.jupyter.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the magics and everything they hooked into away again."""
    from zerostart_jupyter.jupyter.extension import unload

    unload(shell)


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    """Where `jupyter labextension develop` finds the panel."""
    return [{"src": "labextension", "dest": "zerostart-jupyter"}]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    """How jupyter_server finds the extension; called in the server's process only."""
    from zerostart_jupyter.jupyter.server.app import ZerostartServer

    return [{"module": "zerostart_jupyter.jupyter.server.app", "app": ZerostartServer}]
