"""Files that are still on their way: each block is fetched first, and then read like any other."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from zerostart_jupyter.load.arriving import Stopped
from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers.contract import Reader, Statistics


class RemoteReader(Reader):
    """Fetches into the shards' files, which `local` reads; it belongs to this reader."""

    name = "remote"

    def __init__(self, shards: Sequence[Shard], local: Reader, *, threads: int) -> None:
        super().__init__(shards)
        self._local = local
        self._threads = threads

    def read(self, block: Block) -> None:
        """Fetch what is missing of a block, then read it; raises LoadError, Stopped."""
        arriving = self.shards[block.shard].arriving
        if arriving is not None:
            arriving.fetch(block.start, block.stop)
        self._local.read(block)

    def storage(self, entry: Entry) -> torch.UntypedStorage:
        """As the local reader has it."""
        return self._local.storage(entry)

    def statistics(self) -> Statistics:
        """The local reader's, with `local_reader`, `downloaded_bytes` and `published` files."""
        coming = [shard.arriving for shard in self.shards if shard.arriving is not None]
        return {
            **self._local.statistics(),
            "local_reader": self._local.name,
            "downloaded_bytes": sum(each.downloaded for each in coming),
            "published": sum(each.published for each in coming),
        }

    def finish(self) -> None:
        """Fetch the rest of each file and publish it."""
        for shard in self.shards:
            if shard.arriving is not None:
                try:
                    shard.arriving.complete(self._threads)
                except Stopped:
                    return  # every tensor is here; the file is completed another time

    def stop(self) -> None:
        """Break the connections that reads wait on."""
        for shard in self.shards:
            if shard.arriving is not None:
                shard.arriving.stop()

    def close(self) -> None:
        """Close the local reader; the files are the checkpoint's."""
        self._local.close()
