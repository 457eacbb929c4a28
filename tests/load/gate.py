"""A real reader that reads only when a test lets it: loading, stopped at any moment."""

from __future__ import annotations

import threading
from collections.abc import Sequence

import pytest

from tests.patience import PATIENCE
from zerostart_jupyter.load.checkpoint import Shard
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers import select
from zerostart_jupyter.load.readers.mapped import MmapReader


class Gate:
    """Install it before a load; then `open()` lets so many blocks through."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.order: list[tuple[int, int]] = []
        self.failure: BaseException | None = None
        self.entered = threading.Semaphore(0)
        self._turn = threading.Semaphore(0)
        gate = self

        class Gated(MmapReader):
            def read(self, block: Block) -> None:
                gate.entered.release()
                assert gate._turn.acquire(timeout=PATIENCE)
                gate.order.append((block.shard, block.start))
                if gate.failure is not None:
                    raise gate.failure
                super().read(block)

        def make(name: str, shards: Sequence[Shard], **about: object) -> MmapReader:
            return Gated(shards)

        monkeypatch.setattr(select, "make", make)

    def open(self, blocks: int = 1_000_000) -> None:
        self._turn.release(blocks)

    def wait_for_reader(self) -> None:
        """Return when a thread stands before the gate."""
        assert self.entered.acquire(timeout=PATIENCE)
