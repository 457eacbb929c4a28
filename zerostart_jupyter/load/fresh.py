"""Tensors that are no view of their file: read into memory of their own, converted on the way.

Pages of a mapping are gone when the file is cut short, and whoever touches one then gets SIGBUS,
which ends the kernel. What has to be copied anyway is therefore read by pread(2), which says so.
"""

from __future__ import annotations

import ctypes
import math
import os

import torch

from zerostart_jupyter.load import tensors
from zerostart_jupyter.load.checkpoint import Entry, Shard

# Bytes read at once: what the processor's cache holds. While a cell runs, the GIL is waited for
# after each, for 5 ms: then it is fewer, larger reads.
AT_ONCE = 4 << 20
BESIDE_A_CELL = 32 << 20


def viewable(entry: Entry) -> bool:
    """Whether a mapping of the file has the elements in one run, where their type may lie."""
    return _dense(entry) and tensors.aligned(entry)


def read(
    entry: Entry,
    shard: Shard,
    device: str = "cpu",
    dtype: torch.dtype | None = None,
    *,
    at_once: int = AT_ONCE,
) -> torch.Tensor:
    """The tensor on `device`, in one run; raises CheckpointChanged, OSError."""
    own = tensors.dtype_of(entry, shard)
    with torch.inference_mode(False):  # whoever asks, its versions are counted
        made = torch.empty(tensors.shape_of(entry, shard), dtype=dtype or own, device=device)
        strides: tuple[int, ...] = (1,)
        target = made.view(-1)
        if entry.window is not None and not _dense(entry):
            target, strides = made, entry.window.strides
        many = min(len(target), max(1, at_once // own.itemsize // strides[0]))
        row = 1 + sum(
            (extent - 1) * stride
            for extent, stride in zip(target.shape[1:], strides[1:], strict=True)
        )
        scratch = torch.empty((many - 1) * strides[0] + row, dtype=own)
        for first in range(0, len(target), many):
            rows = target[first : first + many]
            count = (len(rows) - 1) * strides[0] + row
            at = entry.start + first * strides[0] * own.itemsize
            _fill(scratch.data_ptr(), count * own.itemsize, shard, at)
            rows.copy_(scratch.as_strided(rows.shape, strides))
    shard.verify()
    return made


def _dense(entry: Entry) -> bool:
    part = entry.window
    return part is None or part.last - part.first == math.prod(part.shape)


def _fill(address: int, count: int, shard: Shard, offset: int) -> None:
    room = memoryview((ctypes.c_ubyte * count).from_address(address)).cast("B")
    while room:
        got = os.preadv(shard.descriptor, [room], offset)
        if got == 0:
            raise shard.changed()
        room, offset = room[got:], offset + got
