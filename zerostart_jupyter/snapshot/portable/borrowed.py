"""Imports a library for as long as it is needed, and lets go of it afterwards.

What stays imported in a kernel pins its version for whatever the user installs next.
"""

from __future__ import annotations

import contextlib
import importlib
import sys
from collections.abc import Iterator
from typing import Any


@contextlib.contextmanager
def borrowed(name: str) -> Iterator[Any]:
    """The module; if nobody had imported it before, nobody has afterwards."""
    before = {each for each in sys.modules if _below(each, name)}
    try:
        yield importlib.import_module(name)
    finally:
        if name not in before:
            for each in [each for each in sys.modules if _below(each, name) and each not in before]:
                del sys.modules[each]


def _below(module: str, name: str) -> bool:
    return module == name or module.startswith(f"{name}.")
