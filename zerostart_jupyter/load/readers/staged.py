"""The half that readers share which copy: a block into a stage, its pieces to their tensors."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Callable, Sequence

import torch

from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers.contract import Reader
from zerostart_jupyter.load.readers.staging import Ring, Stage

Allocate = Callable[[int], torch.UntypedStorage]


class StagedReader(Reader):
    """Each tensor gets memory of its own from `allocate` when its first piece arrives."""

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        stage: Callable[[], Stage],
        stages: int,
        allocate: Allocate,
    ) -> None:
        super().__init__(shards)
        self._ring = Ring(stage, stages)
        self._allocate = allocate
        self._lock = threading.Lock()
        self._targets: dict[str, torch.UntypedStorage] = {}

    def read(self, block: Block) -> None:
        """Fetch a block and copy its pieces; raises CheckpointChanged, OSError."""
        with self._ring.borrow() as stage:
            self._fetch(block, stage)
            try:
                for piece in block.pieces:
                    stage.place(
                        piece.start - block.start,
                        self._target(piece.entry),
                        piece.start - piece.entry.start,
                        piece.stop - piece.start,
                    )
            finally:
                stage.settle()  # a stage goes back only when no copy reads from it

    def storage(self, entry: Entry) -> torch.UntypedStorage:
        """The tensor's memory; the reader forgets it."""
        with self._lock:
            return self._targets.pop(entry.name)

    def close(self) -> None:
        """Free the stages and what was not asked for."""
        self._ring.close()
        self._targets.clear()

    @abstractmethod
    def _fetch(self, block: Block, stage: Stage) -> None:
        """Fill the stage with the file's bytes from `block.start` to `block.stop`."""

    def _target(self, entry: Entry) -> torch.UntypedStorage:
        with self._lock:
            found = self._targets.get(entry.name)
            if found is None:
                found = self._targets[entry.name] = self._allocate(entry.nbytes)
            return found
