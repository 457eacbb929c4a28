"""New randomness for a restored kernel: two clones must not draw the same numbers."""

from __future__ import annotations

import os
import random
import sys
from typing import Any


def reseed() -> list[str]:
    """Seed anew every generator that is in use; returns the names of their modules."""
    random.seed()
    done = ["random"]
    numpy = sys.modules.get("numpy.random")
    if numpy is not None:
        numpy.seed(int.from_bytes(os.urandom(4), "little"))
        done.append("numpy")
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "manual_seed"):
        torch.manual_seed(int.from_bytes(os.urandom(8), "little") >> 1)
        done.append("torch")
    ssl = sys.modules.get("ssl")
    if ssl is not None:
        # OpenSSL notices a fork by its pid, which a restored kernel shares with its siblings.
        ssl.RAND_add(os.urandom(64), 64.0)
        done.append("ssl")
    tempfile: Any = sys.modules.get("tempfile")
    if tempfile is not None:
        tempfile._name_sequence = None  # keyed by pid as well
    return done
