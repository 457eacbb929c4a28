"""Which tensors `dtype=` leaves alone. Pure: names and types as the header has them.

The rule: a type of 8 bits or fewer, or an integer, is never converted. Where a checkpoint has
quantised weights (types of 8 bits and fewer, or packed into integers as GPTQ, AWQ,
compressed-tensors and bitsandbytes do), the floats that belong to them are left alone, too: what
lies in the same module beside them or below the weight's own name, and whatever is called a scale
or a zero point. Biases are converted.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from zerostart_jupyter.load.checkpoint import Entry
from zerostart_jupyter.load.dtypes import CONVERTIBLE

# Types that hold nothing else; bytes and integers also are masks, positions and the like.
_SMALL = frozenset(
    {
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "F8_E5M2",
        "F8_E4M3",
        "F8_E5M2FNUZ",
        "F8_E4M3FNUZ",
        "F8_E8M0",
        "I8",
    }
)
_PACKED = re.compile(r"q?weight|qzeros|weight_packed|packed_weight|.+_blocks")
_MEASURE = re.compile(r"(?:^|_)(?:scales?|zeros?|zero_points?|absmax|scb)(?:$|_)", re.IGNORECASE)


def convertible(entries: Iterable[Entry]) -> frozenset[str]:
    """Names of the tensors that a conversion of dtype may change without changing their meaning."""
    entries = list(entries)
    weights = [entry.name for entry in entries if _is_quantised(entry)]
    homes = {home for name in weights for home in (name, _home(name)) if home}
    return frozenset(
        entry.name
        for entry in entries
        if entry.dtype in CONVERTIBLE and not (weights and _belongs(entry.name, homes))
    )


def _is_quantised(entry: Entry) -> bool:
    if entry.dtype in _SMALL:
        return True
    own = entry.name.rpartition(".")[2]
    return entry.dtype in ("U8", "I32", "U32") and _PACKED.fullmatch(own) is not None


def _belongs(name: str, homes: set[str]) -> bool:
    own = name.rpartition(".")[2]
    if own.endswith("bias"):
        return False
    return _home(name) in homes or _MEASURE.search(own) is not None


def _home(name: str) -> str:
    return name.rpartition(".")[0]
