"""Modules of ours that need others' packages: imported late, let go of where they are in the way.

A live kernel that has imported a version of something can install no other one. What only we have
imported is forgotten when a lock wants another version of it: we have what we need of it.
"""

from __future__ import annotations

import importlib
import sys
from types import ModuleType

# Third-party modules of our own that a user may want in another version.
_OURS = ("packaging", "isal")
_brought: set[str] = set()


def ours(module: str) -> ModuleType:
    """A module of this package; what comes in with it is noted."""
    return bring(f"zerostart_jupyter.install.{module}")


def bring(name: str) -> ModuleType:
    """The module of this name; what comes in with it is noted."""
    before = set(sys.modules)
    found = importlib.import_module(name)
    fresh = set(sys.modules) - before
    _brought.update(each for each in fresh if each.partition(".")[0] in _OURS)
    return found


def let_go(module: str) -> bool:
    """Forget a module if only we have imported it; False if somebody else has."""
    top = module.partition(".")[0]
    loaded = {name for name in sys.modules if name.partition(".")[0] == top}
    if not loaded or not loaded <= _brought:
        return False
    ours("background")  # the last that needs them
    for name in {name for name in sys.modules if name.partition(".")[0] == top}:
        del sys.modules[name]
    return True
