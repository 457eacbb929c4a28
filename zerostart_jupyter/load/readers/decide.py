"""What `reader="auto"` means for these files and this device, and why.

A way is a reader, and for `direct` whether the page cache is passed by: `buffered` goes through it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from time import time

from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.load import availability, filesystem
from zerostart_jupyter.load.checkpoint import Shard, unreadable
from zerostart_jupyter.load.readers import select, timed
from zerostart_jupyter.load.readers.contract import Reader, Statistics

ROOM = "probes"
REMEMBERED = 30 * 24 * 3600.0  # seconds for which a trial's outcome is believed
WORTHWHILE = 512 << 20  # bytes of a checkpoint from which on a trial pays
CACHED = 0.9  # share of the files in memory from which on memory is where they are read from
CLOSE = 0.9  # share of the best speed that is as good, for a way that costs the processor less


@dataclass(frozen=True, slots=True)
class Decision:
    """`way` is what `select.make` takes; `measured` is GB/s by way, where a trial was made."""

    way: str
    why: str
    measured: Mapping[str, float] = field(default_factory=dict)

    def statistics(self) -> Statistics:
        """`way`, `why`, and `probe_WAY` in GB/s."""
        speeds = {f"probe_{way}": round(speed, 3) for way, speed in self.measured.items()}
        return {"way": self.way, "why": self.why, **speeds}


def decide(asked: str, device: str, shards: Sequence[Shard], settings: Settings) -> Decision:
    """The way to read these files; raises LoadError, ReaderUnavailable."""
    default = select.choose(asked, device)
    if asked != "auto":
        return Decision(default, "asked for")
    if not shards:
        return Decision(default, "nothing to read")
    try:
        place = filesystem.of(shards[0].descriptor)
        network = any(filesystem.of(shard.descriptor).network for shard in shards)
    except OSError as error:  # a mount that is gone
        raise unreadable(shards[0], 0, error) from error
    if not device.startswith("cuda") and not network:
        return Decision("mmap", "views of the file cost no memory")
    if any(shard.arriving for shard in shards):
        return Decision("buffered", "it has just been written")
    in_memory = timed.cached(shards)
    if in_memory is not None and in_memory >= CACHED:
        return Decision("buffered", "it is in memory")
    ways = ["direct", "buffered"]
    if device.startswith("cuda") and availability.cufile():
        ways.insert(0, "cufile")
    unmeasured = Decision(
        "buffered" if network else default,
        f"{place.name} is a network file system" if network else "too small to try",
    )
    if sum(shard.identity.size for shard in shards) < WORTHWHILE:
        return unmeasured
    return _by_trial(place, device, ways, shards, settings) or unmeasured


def unmeasured(shards: Sequence[Shard]) -> str:
    """The way to read a little of these files on the CPU."""
    network = any(filesystem.of(shard.descriptor).network for shard in shards)
    return "buffered" if network else "mmap"


def _by_trial(
    place: filesystem.FileSystem,
    device: str,
    ways: Sequence[str],
    shards: Sequence[Shard],
    settings: Settings,
) -> Decision | None:
    key = re.sub(r"[^\w.-]", "_", f"{place.key}-{device.partition(':')[0]}-{'-'.join(ways)}")
    try:
        store = Store(settings.cache)
    except StoreError:
        store = None  # nothing is remembered, then
    known = store.get(ROOM, key) if store else None
    if store and known and time() - known.created > REMEMBERED:
        store.remove(ROOM, key)
        known = None
    if known is not None:
        speeds = {way: float(known.about["measured"].get(way, 0)) for way in ways}
        return Decision(_best(speeds), "remembered for this file system", speeds)
    threads = settings.load_threads

    def make(way: str) -> Reader:
        return select.make(way, shards, device=device, block=timed.BLOCK, stages=threads)

    speeds = timed.trial(shards, ways, make, threads)
    if not speeds:
        return None
    if store:
        with store.publish(ROOM, key, {"measured": speeds, "file_system": place.name}):
            pass
    return Decision(_best(speeds), "the fastest in a trial", speeds)


def _best(speeds: Mapping[str, float]) -> str:
    """The first, in the order of what it costs the processor, that is about as fast as any."""
    most = max(speeds.values())
    return next(way for way, speed in speeds.items() if speed >= most * CLOSE)
