"""`load()`: opens a checkpoint, plans, lets threads read, delivers to the handle."""

from __future__ import annotations

import contextlib
from pathlib import Path

import torch

from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import MIB, Settings
from zerostart_jupyter.load import tensors
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, open_checkpoint, unreadable
from zerostart_jupyter.load.plan import Plan
from zerostart_jupyter.load.readers import decide, select
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
    """The tensors of a checkpoint: a file, an index, a directory, a hub id or an http(s) address.

    What is on the hub (`org/name`, `org/name@revision`) or behind an address is used while it
    arrives, and kept: in the hub's own cache, or in ours. `device` is a torch
    device or "auto" (the first GPU, else the CPU). `dtype` converts floating tensors of 16 bits
    and more. With `background` the handle returns at once and each tensor is waited for when it
    is asked for. Raises CheckpointNotFound, CheckpointInvalid,
    CheckpointChanged, DownloadFailed, ReaderUnavailable, LoadError; Ctrl-C stops the reading.
    """
    wanted = tensors.parse_dtype(dtype)
    place = resolve_device(device)
    select.choose(reader, place)  # a reader that cannot be is refused before anything is opened
    return begin(
        open_checkpoint(source, settings),
        device=place,
        dtype=wanted,
        reader=reader,
        background=background,
        settings=settings,
        hub=hub,
    )


def begin(
    checkpoint: Checkpoint,
    *,
    device: str,
    dtype: torch.dtype | None = None,
    reader: str = "auto",
    background: bool = False,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """What `load` returns, of a checkpoint that is open; it is closed when it has been read."""
    with contextlib.ExitStack() as undo:
        undo.enter_context(checkpoint)
        for entry in checkpoint.entries.values():
            tensors.dtype_of(entry, checkpoint.shards[entry.shard])  # before any byte is read
        settings = settings or Settings.read()
        decision = decide.decide(reader, device, checkpoint.shards, settings)
        # Over a network, connections are what makes it fast, and blocks what is asked for at once.
        remote = any(shard.arriving for shard in checkpoint.shards)
        local = BACKGROUND_BLOCK if background else select.BLOCKS[decision.way]
        reading = Reading(
            checkpoint,
            reader=decision.way,
            about=decision.statistics(),
            device=device,
            dtype=dtype,
            block=settings.chunk_bytes if remote else local,
            threads=settings.parallel_downloads if remote else settings.load_threads,
            hub=hub,
        )
        undo.pop_all()  # the reading closes the checkpoint
    try:
        reading.start()
        return reading.weights if background else reading.weights.wait()
    except BaseException:
        reading.abandon()
        raise


def read_one(checkpoint: Checkpoint, entry: Entry) -> torch.Tensor:
    """One tensor of an open checkpoint, or a part of it, on the CPU, read by this thread."""
    shard = checkpoint.shards[entry.shard]
    if entry.nbytes == 0:
        return tensors.empty(entry, shard, "cpu")
    name = decide.unmeasured([shard])
    block = select.BLOCKS[name]
    reader = select.make(name, checkpoint.shards, device="cpu", block=block, stages=1)
    try:
        for each in Plan([entry], block=block).blocks:
            reader.read(each)
        shard.verify()
        return tensors.view(entry, shard, reader.storage(entry))
    except OSError as error:
        if isinstance(error, LoadError):
            raise
        raise unreadable(shard, entry.start, error) from error
    finally:
        reader.close()


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
