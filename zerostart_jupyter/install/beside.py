"""A process of ours beside this one, which talks to it over pipes."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence


def start(words: Sequence[str]) -> subprocess.Popen[bytes]:
    """Start this interpreter with nothing but its library. Raises OSError."""
    return subprocess.Popen(
        [sys.executable, "-I", "-S", *words],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        process_group=0,  # an interrupt of the kernel is not for it
        cwd="/",
    )
