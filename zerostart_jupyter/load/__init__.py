"""Checkpoint in, tensors out. Importing this imports no torch; using it does."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerostart_jupyter.load.acceleration import accelerate, decelerate
    from zerostart_jupyter.load.availability import capabilities
    from zerostart_jupyter.load.cache import ModelCache
    from zerostart_jupyter.load.loader import load
    from zerostart_jupyter.load.modules import load_into
    from zerostart_jupyter.load.weights import Weights

__all__ = ["ModelCache", "Weights", "accelerate", "capabilities", "decelerate", "load", "load_into"]

_HOMES = {
    "ModelCache": "cache",
    "Weights": "weights",
    "load": "loader",
    "load_into": "modules",
    "accelerate": "acceleration",
    "decelerate": "acceleration",
    "capabilities": "availability",
}


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(_module(home), name)


def _module(home: str) -> Any:
    try:
        return importlib.import_module(f"{__name__}.{home}")
    except ModuleNotFoundError as error:
        if error.name != "torch":
            raise
        from zerostart_jupyter.core.errors import LoadError

        raise LoadError("torch is not installed.", remedy="Run `%zs_install torch`.") from error
