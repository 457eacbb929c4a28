"""Parameters of which this process holds a share only: torch's DTensor.

A share that is one range in each dimension is read alone. Any other (strided shards, as of fused
projections) is cut from the whole tensor by torch itself.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import nn

if TYPE_CHECKING:
    from torch.distributed.tensor import DTensor


def is_share(tensor: torch.Tensor) -> bool:
    """Whether other processes hold the rest of it; imports no torch.distributed to find out."""
    return hasattr(tensor, "device_mesh") and hasattr(tensor, "placements")


def ranges(module: nn.Module) -> dict[str, tuple[slice, ...]]:
    """What this process needs of each parameter and buffer that is shared out, by name."""
    return {
        name: found
        for name, tensor in module.state_dict(keep_vars=True).items()
        if isinstance(tensor, torch.Tensor) and is_share(tensor)
        if (found := _range(_as_dtensor(tensor))) is not None
    }


def share(tensor: torch.Tensor, like: torch.Tensor) -> torch.Tensor:
    """This process's share, as a DTensor like the given one, of what was read for it."""
    from torch.distributed.tensor import DTensor, distribute_tensor

    target = _as_dtensor(like)
    needed = _range(target)
    if needed is None:
        # Each process has read the whole: there is nothing to send.
        return distribute_tensor(tensor, target.device_mesh, target.placements, src_data_rank=None)
    if tensor.shape == target.shape:
        tensor = tensor[needed].contiguous()
    return DTensor.from_local(
        tensor,
        target.device_mesh,
        target.placements,
        run_check=False,
        shape=target.shape,
        stride=target.stride(),
    )


def shape_here(tensor: torch.Tensor) -> tuple[int, ...]:
    """The shape of what is read for a tensor: of its share, where that is one range."""
    found = _range(_as_dtensor(tensor)) if is_share(tensor) else None
    if found is None:
        return tuple(tensor.shape)
    return tuple(each.stop - each.start for each in found)


def _range(tensor: DTensor) -> tuple[slice, ...] | None:
    from torch.distributed.tensor import Replicate, Shard
    from torch.distributed.tensor._utils import compute_local_shape_and_global_offset

    if not all(type(each) in (Replicate, Shard) for each in tensor.placements):
        return None
    shape, offset = compute_local_shape_and_global_offset(
        tensor.shape, tensor.device_mesh, tensor.placements
    )
    return tuple(slice(at, at + count) for at, count in zip(offset, shape, strict=True))


def _as_dtensor(tensor: torch.Tensor) -> Any:
    # nn.Parameter of a DTensor is a DTensor; of anything else we were not asked.
    return tensor
