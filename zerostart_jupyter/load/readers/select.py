"""Which reader for which device, and how it is put together.

Without a look at the files, `auto` is mmap for the CPU, cufile for a GPU where it works, and
direct otherwise; `decide` looks at them.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zerostart_jupyter.core.errors import LoadError, ReaderUnavailable
from zerostart_jupyter.load import availability
from zerostart_jupyter.load.checkpoint import Shard
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.cufile import CuFileReader
from zerostart_jupyter.load.readers.direct import DirectReader
from zerostart_jupyter.load.readers.mapped import MmapReader
from zerostart_jupyter.load.readers.remote import RemoteReader
from zerostart_jupyter.load.readers.staging import HostStage, Stage, TorchStage
from zerostart_jupyter.load.tensors import allocate

NAMES = ("auto", "mmap", "direct", "cufile")

# Bytes read at once; for mmap at least, where the files are small.
BLOCKS = {"mmap": 4 << 20, "direct": 8 << 20, "buffered": 8 << 20, "cufile": 8 << 20}


def choose(name: str, device: str) -> str:
    """The reader that `name` means for a device; raises LoadError, ReaderUnavailable."""
    if name not in NAMES:
        raise LoadError(f"There is no reader {name!r}.", remedy=f"Use one of {', '.join(NAMES)}.")
    if name == "cufile":
        possible = availability.cufile()
        if not possible:
            raise ReaderUnavailable(
                f"The cufile reader cannot work here: {possible.reason}",
                remedy=f'{possible.remedy} Or use reader="auto".',
            )
    if name != "auto":
        return name
    if not device.startswith("cuda"):
        return "mmap"
    return "cufile" if availability.cufile() else "direct"


def make(
    name: str,
    shards: Sequence[Shard],
    *,
    device: str,
    block: int,
    stages: int,
    awaited: bool = False,
) -> Reader:
    """A reader of this name whose storages lie on `device` (mmap's on the CPU).

    `buffered` is direct without O_DIRECT. `awaited` is mmap's. Files that are still on their way
    are fetched first.
    """
    if name == "mmap":
        local: Reader = MmapReader(shards, awaited=awaited)
    else:
        local = _copying(name, shards, device=device, block=block, stages=stages)
    if any(shard.arriving for shard in shards):
        return RemoteReader(shards, local, threads=stages)
    return local


def _copying(name: str, shards: Sequence[Shard], *, device: str, block: int, stages: int) -> Reader:
    on_gpu = device.startswith("cuda")
    place = device if on_gpu else "cpu"

    def pinned(count: int) -> torch.Tensor:
        return torch.empty(count, dtype=torch.uint8, pin_memory=True)

    def on_device(count: int) -> torch.Tensor:
        return torch.empty(count, dtype=torch.uint8, device=place)

    def memory(count: int) -> torch.UntypedStorage:
        return allocate(count, place)

    def stage() -> Stage:
        if not on_gpu:
            return HostStage(block)
        return TorchStage(block, on_device if name == "cufile" else pinned, place)

    if name == "cufile":
        return CuFileReader(shards, stage=stage, stages=stages, allocate=memory, on_device=on_gpu)
    return DirectReader(
        shards, stage=stage, stages=stages, allocate=memory, o_direct=name == "direct"
    )
