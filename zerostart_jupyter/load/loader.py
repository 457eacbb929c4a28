"""`load()`: opens a checkpoint, plans, lets threads read, delivers to the handle."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import MIB, Settings
from zerostart_jupyter.load import tensors
from zerostart_jupyter.load.checkpoint import open_checkpoint
from zerostart_jupyter.load.readers import select
from zerostart_jupyter.load.reading import Reading
from zerostart_jupyter.load.weights import Weights
from zerostart_jupyter.load.words import first_line

# While a cell runs Python, each return from a read waits for the GIL: fewer, larger reads.
BACKGROUND_BLOCK = 32 * MIB


def load(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    reader: str = "auto",
    background: bool = False,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """The tensors of a checkpoint: a file, a sharded index, a directory or a downloaded hub id.

    `device` is a torch device or "auto" (the first GPU, else the CPU). `dtype` converts floating
    tensors of 16 bits and more. With `background` the handle returns at once and each tensor is
    waited for when it is asked for. Raises CheckpointNotFound, CheckpointInvalid,
    CheckpointChanged, ReaderUnavailable, LoadError; Ctrl-C stops the reading.
    """
    wanted = tensors.parse_dtype(dtype)
    place = resolve_device(device)
    chosen = select.choose(reader, place)
    with contextlib.ExitStack() as undo:
        checkpoint = undo.enter_context(open_checkpoint(source))
        for entry in checkpoint.entries.values():
            tensors.dtype_of(entry, checkpoint.shards[entry.shard])  # before any byte is read
        reading = Reading(
            checkpoint,
            reader=chosen,
            device=place,
            dtype=wanted,
            block=BACKGROUND_BLOCK if background else select.BLOCKS[chosen],
            threads=(settings or Settings.read()).load_threads,
            hub=hub,
        )
        undo.pop_all()  # the reading closes the checkpoint
    try:
        reading.start()
        return reading.weights if background else reading.weights.wait()
    except BaseException:
        reading.abandon()
        raise


def resolve_device(device: str) -> str:
    """The torch device that a user's word means; raises LoadError if it is not there."""
    if device == "auto":
        return "cuda:0" if torch.cuda.is_available() else "cpu"
    try:
        parsed = torch.device(device)
        torch.empty(0, device=parsed)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise LoadError(
            f"There is no device {device!r} here: {first_line(error)}.",
            remedy='Use device="auto" or device="cpu".',
        ) from error
    if parsed.type == "cuda" and parsed.index is None:
        return f"cuda:{torch.cuda.current_device()}"
    return str(parsed)
