"""zerostart for Jupyter: packages that stream in, weights at disk speed, kernels that come back.

The public names are those of the module `zerostart`; importing either brings in neither an HTTP
client nor torch.
"""

from __future__ import annotations

__version__ = "0.1.0"

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from IPython.core.interactiveshell import InteractiveShell

__all__ = ["__version__", "load_ipython_extension", "unload_ipython_extension"]


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
