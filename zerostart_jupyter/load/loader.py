"""`load()`: opens a checkpoint, plans, lets threads read, delivers to the handle."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch

from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import MIB, Settings
from zerostart_jupyter.load import collector, fresh, slicing, tensors
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, open_checkpoint, unreadable
from zerostart_jupyter.load.plan import ALIGN, Plan
from zerostart_jupyter.load.readers import decide, select
from zerostart_jupyter.load.readers.contract import Statistics
from zerostart_jupyter.load.reading import Reading
from zerostart_jupyter.load.weights import Weights
from zerostart_jupyter.load.words import first_line

Index = slice | tuple[slice, ...]

# While a cell runs Python, each return from a read waits for the GIL: fewer, larger reads.
BACKGROUND_BLOCK = 32 * MIB
# Threads that populate near each other wait for each other's read-ahead: far apart they are half
# as fast again, and as steady as one alone.
POPULATE = 256 * MIB


def load(
    source: str | Path,
    *,
    device: str = "auto",
    dtype: str | torch.dtype | None = None,
    reader: str = "auto",
    background: bool = False,
    slices: Mapping[str, Index] | None = None,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """The tensors of a checkpoint: a file, an index, a directory, a hub id or an http(s) address.

    What is on the hub (`org/name`, `org/name@revision`) or behind an address is used while it
    arrives, and kept: in the hub's own cache, or in ours. `device` is a torch device or "auto"
    (the first GPU, else the CPU). `dtype` converts floating tensors of 16 bits and more, but for
    the scales of quantised weights. `slices` says of which tensors only a part is needed, as the
    slice of each dimension: what `tensor[index]` would give comes, and little else is read. With
    `background` the handle returns at once and each tensor is waited for when it is asked for.
    Raises CheckpointNotFound, CheckpointInvalid, CheckpointChanged, DownloadFailed,
    ReaderUnavailable, LoadError; Ctrl-C stops the reading.
    """
    wanted = tensors.parse_dtype(dtype)
    place = resolve_device(device)
    select.choose(reader, place)  # a reader that cannot be is refused before anything is opened
    return begin(
        open_checkpoint(
            source,
            settings,
            ahead=place == "cpu" and reader in ("auto", "mmap") and not (background or slices),
        ),
        device=place,
        dtype=wanted,
        reader=reader,
        background=background,
        slices=slices,
        settings=settings,
        hub=hub,
    )


def begin(
    checkpoint: Checkpoint,
    *,
    device: str | Mapping[str, str],
    dtype: torch.dtype | None = None,
    reader: str = "auto",
    background: bool = False,
    awaited: bool = False,
    order: Sequence[str] = (),
    slices: Mapping[str, Index] | None = None,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """What `load` returns, of a checkpoint that is open; it is closed when it has been read.

    `device` is one for all tensors, or says of each by name. `order` names tensors in the order
    they will be needed in; the default is that of the files. A load in the `background` may be
    `awaited` all the same, tensor by tensor.
    """
    with contextlib.ExitStack() as undo, collector.paused():
        undo.enter_context(checkpoint)
        tensors.refuse_unknown(checkpoint)  # before any byte is read
        _narrow(checkpoint, slices or {})
        settings = settings or Settings.read()
        places = [device] if isinstance(device, str) else sorted(set(device.values())) or ["cpu"]
        decisions = {
            place: decide.decide(reader, place, checkpoint.shards, settings) for place in places
        }
        # Over a network, connections are what makes it fast, and blocks what is asked for at once.
        remote = any(shard.arriving for shard in checkpoint.shards)
        threads = _threads(settings, decisions, background=background, remote=remote)
        reading = Reading(
            checkpoint,
            readers={place: decision.way for place, decision in decisions.items()},
            about=_about(decisions),
            device=device,
            dtype=dtype,
            block=settings.chunk_bytes
            if remote
            else _block(
                decisions,
                checkpoint.nbytes // threads,
                background=background,
                ordered=bool(order),
            ),
            threads=threads,
            hub=hub,
            order=order,
            prepared=not background,
            awaited=awaited or not background,
        )
        undo.pop_all()  # the reading closes the checkpoint
    try:
        if background:
            reading.start()
            return reading.weights
        with collector.paused():
            reading.start()
            return reading.weights.wait()
    except BaseException:
        reading.abandon()
        raise


def _threads(
    settings: Settings,
    decisions: Mapping[str, decide.Decision],
    *,
    background: bool,
    remote: bool,
) -> int:
    if remote:
        return settings.parallel_downloads
    # Those that copy come back to Python between reads: while a cell keeps the GIL, about half of
    # them wait for it.
    copying = any(decision.way != "mmap" for decision in decisions.values())
    return settings.load_threads * (2 if background and copying else 1)


def _block(
    decisions: Mapping[str, decide.Decision], share: int, *, background: bool, ordered: bool
) -> int:
    """Bytes of one read; `share` is what each thread would get of them all."""
    block = max(select.BLOCKS[decision.way] for decision in decisions.values())
    if all(decision.way == "mmap" for decision in decisions.values()) and not ordered:
        return min(POPULATE, max(block, share // ALIGN * ALIGN))
    # What is read in the order of need is waited for piece by piece.
    return BACKGROUND_BLOCK if background else block


def _about(decisions: Mapping[str, decide.Decision]) -> Statistics:
    """Why it is read as it is; by device where there are several."""
    several = len(decisions) > 1
    return {
        f"{place} {key}" if several else key: value
        for place, decision in decisions.items()
        for key, value in decision.statistics().items()
    }


def _narrow(checkpoint: Checkpoint, slices: Mapping[str, Index]) -> None:
    """Let only the bytes of these parts be read."""
    entries = dict(checkpoint.entries)
    for name in slices.keys() & entries.keys():
        entry = entries[name]
        shard = checkpoint.shards[entry.shard]
        part = slicing.window(tensors.shape_of(entry, shard), slices[name])
        if part is None:
            raise LoadError(
                f"{checkpoint.title}: {slices[name]!r} is no part of {name!r} that can be read.",
                remedy="Give a slice without a step for each dimension, and no more of them.",
            )
        if not part.whole:
            entries[name] = slicing.cut(entry, part, tensors.dtype_of(entry, shard).itemsize)
    checkpoint.entries = entries


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
        if name == "mmap" and not fresh.viewable(entry):
            return fresh.read(entry, shard)
        return tensors.view(entry, shard, reader.storage(entry)).contiguous()
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
