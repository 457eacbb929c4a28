"""Bytes → torch tensors: views of them, their types and shapes, where they are from."""

from __future__ import annotations

import functools
import operator

import torch

from zerostart_jupyter.core.errors import CheckpointInvalid, LoadError
from zerostart_jupyter.core.references import Reference, references
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, Shard
from zerostart_jupyter.load.dtypes import DTYPES, SPELLINGS

_CPU = torch.device("cpu")
_version = operator.attrgetter("_version")


def allocate(count: int, device: str) -> torch.UntypedStorage:
    """Fresh memory for one tensor's bytes."""
    return torch.empty(count, dtype=torch.uint8, device=device).untyped_storage()


def dtype_of(entry: Entry, shard: Shard) -> torch.dtype:
    """The torch type that holds a tensor; raises CheckpointInvalid where torch has none."""
    found = _torch_type(entry.dtype)
    if found is None:
        raise CheckpointInvalid(
            f"{shard.path}: tensor {entry.name!r} is {entry.dtype}, which torch "
            f"{torch.__version__} does not have.",
            remedy="Install a newer torch, or save the tensor in another type.",
        )
    shape_of(entry, shard)
    return found


def refuse_unknown(checkpoint: Checkpoint) -> None:
    """Raise CheckpointInvalid for a tensor that torch cannot hold."""
    known: set[str] = set()
    for entry in checkpoint.entries.values():
        # An extent that is too large for torch is one of a tensor without elements.
        if entry.dtype not in known or entry.dtype == "F4" or entry.start == entry.stop:
            dtype_of(entry, checkpoint.shards[entry.shard])
            known.add(entry.dtype)


@functools.cache
def _torch_type(dtype: str) -> torch.dtype | None:
    name = DTYPES[dtype].torch
    found = getattr(torch, name, None) if name else None
    return found if isinstance(found, torch.dtype) else None


def parse_dtype(wanted: str | torch.dtype | None) -> torch.dtype | None:
    """The torch type a user named ("bf16", "float32", torch.float16), or None for the file's."""
    if wanted is None or isinstance(wanted, torch.dtype):
        return wanted
    name = SPELLINGS.get(wanted.strip().lower().removeprefix("torch."))
    if wanted.strip().lower() == "auto":
        return None
    if name is None:
        raise LoadError(
            f"{wanted!r} is not a dtype that weights can be converted to.",
            remedy=f"Use one of {', '.join(sorted(set(SPELLINGS.values())))}.",
        )
    found = getattr(torch, name)
    assert isinstance(found, torch.dtype)
    return found


def view(entry: Entry, shard: Shard, storage: torch.UntypedStorage) -> torch.Tensor:
    """A tensor over the bytes, with a version counter of its own.

    They begin where the type may lie. A part of a tensor may lie in them with gaps.
    """
    dtype, shape = _torch_type(entry.dtype) or dtype_of(entry, shard), shape_of(entry, shard)
    strides = _strides(shape) if entry.window is None else entry.window.strides
    if storage.device == _CPU:
        tensor = _nothing(dtype).data  # a quarter of what a new one costs, with its own counter
    else:
        tensor = torch.empty(0, dtype=dtype, device=storage.device)
    return tensor.set_(storage, 0, shape, strides)


@functools.cache
def _nothing(dtype: torch.dtype) -> torch.Tensor:
    with torch.inference_mode(False):  # whoever asks first: its copies count their versions
        return torch.empty(0, dtype=dtype)


def aligned(entry: Entry) -> bool:
    """Whether a mapping of the file has the bytes where their type may lie."""
    dtype = _torch_type(entry.dtype)
    return dtype is not None and entry.start % dtype.itemsize == 0


def empty(entry: Entry, shard: Shard, device: str) -> torch.Tensor:
    """A tensor without elements: there is nothing to read for it."""
    return torch.empty(shape_of(entry, shard), dtype=dtype_of(entry, shard), device=device)


def finished(tensor: torch.Tensor, device: str, dtype: torch.dtype | None) -> torch.Tensor:
    """The tensor where and as it was asked for: in one run, moved, converted if need be."""
    tensor = tensor.contiguous()
    if (dtype is None or tensor.dtype == dtype) and device == "cpu" and tensor.is_cpu:
        return tensor  # ten times faster than to ask `to` for nothing
    return tensor.to(device=device, dtype=dtype or tensor.dtype)


def reference(entry: Entry, shard: Shard) -> Reference:
    """Where the tensor's bytes are on disk."""
    return Reference(shard.path, entry.start, entry.nbytes, shard.identity)


def remember(name: str, tensor: torch.Tensor, origin: Reference) -> None:
    """Note in core.references that the tensor's bytes are those of the file."""
    references().add(
        name,
        tensor,
        origin,
        address=torch.Tensor.data_ptr,
        version=_version,
        device="cpu" if tensor.is_cpu else str(tensor.device),
    )


def shape_of(entry: Entry, shard: Shard) -> tuple[int, ...]:
    """A tensor's shape as torch counts: two F4 share one element, so the last extent is halved."""
    if entry.window is not None:
        return entry.window.shape
    shape = entry.shape
    if entry.dtype == "F4":
        if not shape or shape[-1] % 2:
            raise _unshapely(entry, shard, "torch packs F4 in pairs along the last dimension")
        shape = (*shape[:-1], shape[-1] // 2)
    if max(shape, default=0) >= 1 << 63:
        raise _unshapely(entry, shard, "torch counts to 2^63")
    return shape


def _unshapely(entry: Entry, shard: Shard, reason: str) -> CheckpointInvalid:
    return CheckpointInvalid(
        f"{shard.path}: tensor {entry.name!r} has the shape {list(entry.shape)}, but {reason}.",
        remedy="Save it in a shape that torch has.",
    )


def _strides(shape: tuple[int, ...]) -> tuple[int, ...]:
    if 0 in shape:
        return tuple(1 for _ in shape)
    strides = [1] * len(shape)
    for axis in range(len(shape) - 1, 0, -1):
        strides[axis - 1] = strides[axis] * shape[axis]
    return tuple(strides)
