"""`mmap`: tensors are views of the file itself; reading is filling the page cache in parallel.

Nothing is copied, so a load costs no memory of its own and the first touch of a page is not
paid twice. Writing to a tensor copies the touched page (MAP_PRIVATE), never the file.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Sequence

import torch

from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.load import first_touch, pages
from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers.contract import Reader, Statistics
from zerostart_jupyter.load.words import first_line

SCRATCH = 1 << 20  # bytes a thread reads at once where the kernel cannot populate


class MmapReader(Reader):
    """Maps each shard and populates it with MADV_POPULATE_READ, or by reading into scratch.

    Where somebody waits for the load, pages are asked for ahead, and touched while the disk is at
    work: the first touch is dear in a virtual machine.
    """

    name = "mmap"

    ahead = True

    def __init__(
        self, shards: Sequence[Shard], *, awaited: bool = False, populate: bool | None = None
    ) -> None:
        """`awaited` says that whoever loads waits for it. A cell that runs meanwhile has the GIL,
        for which each call that comes back waits: then there are as few as can be."""
        super().__init__(shards)
        self._awaited = awaited
        self._populate = pages.can_populate() if populate is None else populate
        self._mapped = [_map(shard) for shard in shards]
        self._scratch = threading.local()
        self._lock = threading.Lock()
        self._bytes = 0

    def read(self, block: Block) -> None:
        """Fill the page cache with a block; raises CheckpointChanged, OSError."""
        if self._populate:
            self._fill(block)
        else:
            self._touch(block)
        with self._lock:
            self._bytes += block.stop - block.start

    def storage(self, entry: Entry) -> torch.UntypedStorage:
        """A slice of the mapping; it keeps the mapping alive."""
        part = self._mapped[entry.shard][entry.start : entry.stop]
        assert isinstance(part, torch.UntypedStorage)
        return part

    def statistics(self) -> Statistics:
        """`bytes` brought in, and `how`: populate or pread."""
        return {"bytes": self._bytes, "how": "populate" if self._populate else "pread"}

    def close(self) -> None:
        """Let go of the mappings; those that tensors look at stay."""
        self._mapped = []

    def _fill(self, block: Block) -> None:
        shard = self.shards[block.shard]
        # Whole pages, as madvise wants; the last one holds the end of the file.
        count = -(-(block.stop - block.start) // pages.PAGE) * pages.PAGE
        address = self._mapped[block.shard].data_ptr() + block.start
        last = address + count - pages.PAGE
        # Where the end of a block is in memory, the rest is, mostly.
        help_disk = self._awaited and (
            shard.just_came(block.start) or not pages.cached(shard.descriptor, block.stop - 1, last)
        )
        if help_disk:
            pages.read_ahead(shard.descriptor, block.start, count)
        try:
            pages.populate(address, count)
        except OSError as error:
            if error.errno == errno.EFAULT:
                shard.verify()  # bytes that are gone, rather than a disk that failed
                raise OSError(errno.EIO, os.strerror(errno.EIO)) from error
            raise
        if help_disk:
            first_touch.touch(address, count)

    def _touch(self, block: Block) -> None:
        scratch = getattr(self._scratch, "view", None)
        if scratch is None:
            scratch = self._scratch.view = memoryview(bytearray(SCRATCH))
        shard = self.shards[block.shard]
        at = block.start
        while at < block.stop:
            got = os.preadv(shard.descriptor, [scratch[: block.stop - at]], at)
            if got == 0:
                raise shard.changed()
            at += got


def _map(shard: Shard) -> torch.UntypedStorage:
    try:
        # Through the descriptor, not the path: the path may name another file by now.
        mapped = torch.UntypedStorage.from_file(
            f"/proc/self/fd/{shard.descriptor}", False, shard.identity.size
        )
    except RuntimeError as error:
        shard.verify()
        raise LoadError(
            f"{shard.path} cannot be mapped: {first_line(error)}.",
            remedy='Load it with reader="direct".',
        ) from error
    assert isinstance(mapped, torch.UntypedStorage)
    return mapped
