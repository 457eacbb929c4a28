"""The files of a checkpoint, found: what `locate` returns and `checkpoint` opens."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zerostart_jupyter.core.store import Lease
from zerostart_jupyter.load.arriving import Arriving


@dataclass(frozen=True, slots=True)
class Located:
    """The shards in order; `homes` says which shard an index promises each tensor in.

    `arriving` are those of the files whose bytes are still to come; `close()` gives them up.
    `aliases` are names of tensors that are the same as others.
    """

    title: str
    files: tuple[Path, ...]
    homes: Mapping[str, Path] | None = None
    arriving: Mapping[Path, Arriving] = field(default_factory=dict)
    leases: Sequence[Lease] = ()
    aliases: Mapping[str, str] = field(default_factory=dict)

    def close(self) -> None:
        """Let go of what is still to come."""
        for each in self.arriving.values():
            each.close()
        self.opened()

    def opened(self) -> None:
        """The files are open: those of our cache may be evicted from now on."""
        for each in self.leases:
            each.close()
