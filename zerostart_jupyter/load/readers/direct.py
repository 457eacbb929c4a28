"""`direct`: preadv into reused staging, past the page cache where the file system allows it."""

from __future__ import annotations

import ctypes
import os
from collections.abc import Callable, Sequence

from zerostart_jupyter.load import pages
from zerostart_jupyter.load.checkpoint import Shard
from zerostart_jupyter.load.plan import ALIGN, Block
from zerostart_jupyter.load.readers.contract import Statistics
from zerostart_jupyter.load.readers.staged import Allocate, StagedReader
from zerostart_jupyter.load.readers.staging import Stage


class DirectReader(StagedReader):
    """Reads with O_DIRECT; a file that refuses it, and a file's odd end, are read buffered."""

    name = "direct"

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        stage: Callable[[], Stage],
        stages: int,
        allocate: Allocate,
        o_direct: bool = True,
    ) -> None:
        super().__init__(shards, stage=stage, stages=stages, allocate=allocate)
        self._direct: list[int | None] = []
        self._refused: list[int] = []
        self._bytes = {"direct": 0, "buffered": 0}
        try:
            for shard in shards:
                self._direct.append(pages.open_direct(shard.descriptor) if o_direct else None)
        except BaseException:
            self.close()
            raise

    def statistics(self) -> Statistics:
        """`bytes` in all, `direct_bytes` past the page cache, `buffered_bytes` through it."""
        direct, buffered = self._bytes["direct"], self._bytes["buffered"]
        return {
            "bytes": direct + buffered,
            "direct_bytes": direct,
            "buffered_bytes": buffered,
        }

    def close(self) -> None:
        """Close the second descriptors and free the staging."""
        super().close()
        for descriptor in (*self._direct, *self._refused):
            if descriptor is not None:
                os.close(descriptor)
        self._direct, self._refused = [], []

    def _fetch(self, block: Block, stage: Stage) -> None:
        shard = self.shards[block.shard]
        room = memoryview((ctypes.c_ubyte * stage.nbytes).from_address(stage.address)).cast("B")
        wanted = block.stop - block.start
        done = 0
        while done < wanted:
            at = block.start + done
            direct = self._direct[block.shard] if done % ALIGN == 0 else None
            if direct is not None:
                # Direct I/O wants whole blocks; past the end of the file it gives what there is.
                end = -(-wanted // ALIGN) * ALIGN
                got = pages.preadv_direct(direct, room[done:end], at)
                if got is None:
                    self._direct_refused(block.shard)
                    continue
                kind = "direct"
            else:
                got = os.preadv(shard.descriptor, [room[done:wanted]], at)
                kind = "buffered"
            if got == 0:
                raise shard.changed()
            with self._lock:
                self._bytes[kind] += min(got, wanted - done)
            done += got

    def _direct_refused(self, number: int) -> None:
        with self._lock:
            descriptor, self._direct[number] = self._direct[number], None
            if descriptor is not None:
                self._refused.append(descriptor)  # other threads may still be reading through it
