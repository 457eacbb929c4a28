"""How fast each way of reading brings bytes of these very files to this device: a short trial.

Each way gets blocks that are not in memory, spread over the files, and does with them what a load
does. Flags say what a machine could do; this says what it does.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence

from zerostart_jupyter.core.errors import LoadError
from zerostart_jupyter.load.checkpoint import Entry, Shard
from zerostart_jupyter.load.plan import Block, Piece
from zerostart_jupyter.load.readers.contract import Reader

BLOCK = 8 << 20  # bytes of one read
SECONDS = 0.15  # after which a way begins no further block
BLOCKS = 24  # that a way reads at most
LEAST = 3  # blocks for each way, or it says nothing
SAMPLES = 32  # places in a file that are looked at to see how much of it is in memory


def cached(shards: Sequence[Shard]) -> float | None:
    """Share of these files, 0 to 1, that is in memory, by samples; None if that is not said.

    mincore(2) is no help here: of files that are somebody else's it says that all is there.
    """
    seen: list[bool] = []
    for shard in shards:
        with _looking(shard) as here:
            for number in range(SAMPLES):
                part = shard.identity.size // SAMPLES
                found = here(number * part, part)
                if found is not None:
                    seen.append(found)
    return sum(seen) / len(seen) if seen else None


def trial(
    shards: Sequence[Shard], ways: Sequence[str], make: Callable[[str], Reader], threads: int
) -> dict[str, float]:
    """10^9 bytes a second of each way that worked; empty where too little is uncached."""
    blocks = _uncached(shards, len(ways) * (BLOCKS + 1))
    each = len(blocks) // max(1, len(ways))
    if each < LEAST:
        return {}
    measured = {}
    for number, way in enumerate(ways):
        with contextlib.suppress(LoadError, OSError, RuntimeError):  # then it is not the one
            measured[way] = _speed(make(way), blocks[number :: len(ways)], threads)
    return measured


def _speed(reader: Reader, blocks: Sequence[Block], threads: int) -> float:
    try:
        _bring(reader, blocks[0])  # the first pays for staging and for opening drivers
        waiting = iter(blocks[1:])
        lock = threading.Lock()
        failed: list[BaseException] = []
        done = 0
        began = time.monotonic()

        def work() -> None:
            nonlocal done
            while True:
                with lock:
                    block = next(waiting, None)
                    late = done > 0 and time.monotonic() - began > SECONDS
                if block is None or late or failed:
                    return
                try:
                    _bring(reader, block)
                except BaseException as error:
                    failed.append(error)
                    return
                with lock:
                    done += block.stop - block.start

        workers = [threading.Thread(target=work, daemon=True) for _ in range(threads)]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        if failed:
            raise failed[0]
        return done / 1e9 / max(time.monotonic() - began, 1e-9)
    finally:
        reader.close()


def _bring(reader: Reader, block: Block) -> None:
    reader.read(block)
    reader.storage(block.pieces[0].entry)


def _uncached(shards: Sequence[Shard], count: int) -> list[Block]:
    """Blocks in a row as the files have them, so that ways which take turns share no region."""
    found: list[Block] = []
    for number, shard in enumerate(shards):
        with _looking(shard) as here:
            for start in range(0, shard.identity.size - BLOCK + 1, BLOCK):
                if len(found) == count:
                    return found
                if not here(start, BLOCK):
                    found.append(_block(number, start))
    return found


def _block(shard: int, start: int) -> Block:
    entry = Entry(f"{shard}.{start}", "U8", (BLOCK,), shard, start, start + BLOCK)
    return Block(0, shard, start, start + BLOCK, (Piece(entry, start, start + BLOCK),))


@contextlib.contextmanager
def _looking(shard: Shard) -> Iterator[Callable[[int, int], bool | None]]:
    """A question: is a byte of this range in memory? None where the system does not say.

    Asking brings the page in that was missing. So any byte is asked for, not the same each time,
    and without the reading ahead that would bring in its neighbours, too.
    """
    descriptor = os.open(f"/proc/self/fd/{shard.descriptor}", os.O_RDONLY | os.O_CLOEXEC)
    os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_RANDOM)

    def here(start: int, count: int) -> bool | None:
        offset = start + random.randrange(max(count, 1))
        try:
            return os.preadv(descriptor, [bytearray(1)], offset, os.RWF_NOWAIT) == 1
        except BlockingIOError:
            return False
        except OSError:
            return None

    try:
        yield here
    finally:
        os.close(descriptor)
