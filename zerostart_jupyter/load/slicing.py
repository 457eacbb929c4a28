"""Which bytes of a tensor a part of it needs. Pure.

A range along the first dimension is one run of bytes, and nothing else is read. A range along
another dimension is scattered over the rows: the run from its first to its last element is read,
since rows are shorter than what a disk is asked for at once, and the part is copied out of it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from zerostart_jupyter.load.checkpoint import Entry


@dataclass(frozen=True, slots=True)
class Window:
    """A part of a tensor: elements from `first` to before `last`, laid out by shape and strides."""

    shape: tuple[int, ...]
    strides: tuple[int, ...]
    first: int
    last: int
    whole: bool


def window(shape: Sequence[int], index: Any) -> Window | None:
    """The part of a tensor of this shape that an index means; None if it is no mere range.

    Ranges are slices without a step and `...`; dimensions that are not named are whole.
    """
    ranges = _ranges(shape, index)
    if ranges is None:
        return None
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    part = tuple(stop - start for start, stop in ranges)
    whole = part == tuple(shape)
    if 0 in part:
        return Window(part, strides, 0, 0, whole)
    first = sum(start * stride for (start, _), stride in zip(ranges, strides, strict=True))
    last = sum((stop - 1) * stride for (_, stop), stride in zip(ranges, strides, strict=True)) + 1
    return Window(part, strides, first, last, whole)


def cut(entry: Entry, part: Window, itemsize: int) -> Entry:
    """The entry of a part of a tensor; `itemsize` is bytes of an element."""
    return entry._replace(
        start=entry.start + part.first * itemsize,
        stop=entry.start + part.last * itemsize,
        window=part,
    )


def _ranges(shape: Sequence[int], index: Any) -> list[tuple[int, int]] | None:
    parts = list(index) if isinstance(index, tuple) else [index]
    dots = [at for at, each in enumerate(parts) if each is Ellipsis]
    if len(dots) > 1 or len(parts) - len(dots) > len(shape):
        return None
    if dots:
        missing = len(shape) - len(parts) + 1
        parts[dots[0] : dots[0] + 1] = [slice(None)] * missing
    parts += [slice(None)] * (len(shape) - len(parts))
    ranges = []
    for extent, each in zip(shape, parts, strict=True):
        if not isinstance(each, slice) or each.step not in (None, 1):
            return None
        start, stop, _ = each.indices(extent)
        ranges.append((start, max(start, stop)))
    return ranges
