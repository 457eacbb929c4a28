"""Several readers as one, for a checkpoint whose tensors go to several devices."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING

from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block
from zerostart_jupyter.load.readers.contract import Reader, Statistics

if TYPE_CHECKING:
    import torch


class SpreadReader(Reader):
    """Hands each block to the reader of its device; the plan mixes no two devices in a block."""

    def __init__(
        self,
        shards: Sequence[Shard],
        readers: Mapping[str, Reader],
        device_of: Callable[[str], str],
    ) -> None:
        super().__init__(shards)
        self._readers = readers
        self._device_of = device_of

    @property
    def name(self) -> str:  # type: ignore[override]
        """The readers' names, each once."""
        return " and ".join(sorted({reader.name for reader in self._readers.values()}))

    def read(self, block: Block) -> None:
        """Read by the device's reader; raises CheckpointChanged, OSError."""
        self._of(block.pieces[0].entry).read(block)

    def storage(self, entry: Entry) -> torch.UntypedStorage:
        """The bytes, on the tensor's device."""
        return self._of(entry).storage(entry)

    def statistics(self) -> Statistics:
        """`bytes` of all, and each device's as its reader counted them."""
        found: Statistics = {"bytes": 0}
        for device, reader in self._readers.items():
            counted = reader.statistics()
            found.update({f"{device} {key}": value for key, value in counted.items()})
            found["bytes"] = int(found["bytes"]) + int(counted["bytes"])
        return found

    def finish(self) -> None:
        """Let each do what is left to do."""
        for reader in self._readers.values():
            reader.finish()

    def stop(self) -> None:
        """Let those that wait for long give up."""
        for reader in self._readers.values():
            reader.stop()

    def close(self) -> None:
        """Close them all."""
        for reader in self._readers.values():
            reader.close()

    def _of(self, entry: Entry) -> Reader:
        return self._readers[self._device_of(entry.name)]
