"""Requirements in, an environment on `sys.path` out.

Importing this costs nothing; every name is resolved on first use.
"""

from __future__ import annotations

import importlib

TYPE_CHECKING = False  # `typing` takes longer to import than all of this
if TYPE_CHECKING:
    from typing import Any

    from zerostart_jupyter.install.doctor import capabilities as capabilities
    from zerostart_jupyter.install.indexes import IndexOptions as IndexOptions
    from zerostart_jupyter.install.installation import Installation as Installation
    from zerostart_jupyter.install.installation import install as install
    from zerostart_jupyter.install.planning import Plan as Plan
    from zerostart_jupyter.install.planning import plan as plan
    from zerostart_jupyter.install.requirements import Request as Request
    from zerostart_jupyter.install.requirements import gather as gather

_HOMES = {
    "IndexOptions": "indexes",
    "Installation": "installation",
    "Plan": "planning",
    "Request": "requirements",
    "capabilities": "doctor",
    "gather": "requirements",
    "install": "installation",
    "plan": "planning",
}

__all__ = list(_HOMES)


def __getattr__(name: str) -> Any:
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{home}"), name)
