"""Calls of libc that Python has no function for."""

from __future__ import annotations

import ctypes
import os
from typing import Any


def call(function: str, *arguments: Any) -> None:
    """Call one that returns 0; raises OSError that names it as its file."""
    libc = ctypes.CDLL(None, use_errno=True)
    if getattr(libc, function)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), function)
