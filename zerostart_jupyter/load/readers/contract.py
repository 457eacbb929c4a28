"""What every reader promises. `tests/contracts/reader.py` holds the tests each must pass."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar

from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block

if TYPE_CHECKING:
    import torch

Statistics = dict[str, int | float | str | bool]


class Reader(ABC):
    """Brings blocks of open shards into memory. `read` may be called from any thread.

    The shards belong to the caller, who closes them after the reader.
    """

    name: ClassVar[str]
    ahead: ClassVar[bool] = False
    """Whether `storage` may be asked for until `close()`, before the bytes are there and after."""

    def __init__(self, shards: Sequence[Shard]) -> None:
        self.shards = shards

    @abstractmethod
    def read(self, block: Block) -> None:
        """Return when every byte of the block's pieces is in place.

        Raises CheckpointChanged where the file has fewer bytes than its header said, OSError
        where the system failed.
        """

    @abstractmethod
    def storage(self, entry: Entry) -> torch.UntypedStorage:
        """The bytes of one tensor, once all its pieces are read; asked for once.

        It begins with the tensor's first byte, keeps alive what it needs, and is writable
        without a trace in the file. Its address may be unaligned for the dtype.
        """

    @abstractmethod
    def statistics(self) -> Statistics:
        """What was done so far, by the reader's own counting: `bytes`, and how they came."""

    def finish(self) -> None:
        """Called once when every block was read, before `close()`: what is left to do."""
        return None

    def stop(self) -> None:
        """Called when the load ends early, from any thread: reads that wait for long give up."""
        return None

    def close(self) -> None:
        """Give staging and handles back; storages stay valid. A second call does nothing."""
        return None
