"""Which bytes to read next, in what pieces. Pure: no file, no thread, no clock.

Wanted tensors become blocks: runs of bytes, cut at multiples of the alignment, read in file
order or in one that is given. `lift` moves the blocks of a tensor somebody waits for to the front.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from zerostart_jupyter.load.checkpoint import Entry

ALIGN = 4096  # bytes: the page, and the largest logical block O_DIRECT is known to ask for
GAP = 1 << 20  # bytes of unwanted data that are cheaper to read than to skip


@dataclass(frozen=True, slots=True)
class Piece:
    """The part of one tensor that lies in a block; offsets in the file."""

    entry: Entry
    start: int
    stop: int


@dataclass(frozen=True, slots=True)
class Block:
    """One read: `start` is aligned, `stop` is aligned or the end of what is wanted."""

    number: int
    shard: int
    start: int
    stop: int
    pieces: tuple[Piece, ...]

    @property
    def payload(self) -> int:
        """Bytes of tensors in the block: less than its length where it was aligned."""
        return sum(piece.stop - piece.start for piece in self.pieces)


class Plan:
    """Hands out blocks in the order of need. Not thread-safe: its user holds a lock.

    `budget` bounds the bytes in flight; one block is always allowed. `order` names tensors in the
    order of need; those it leaves out come last. Tensors for which `apart` gives different
    values share no block.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        block: int,
        gap: int = GAP,
        budget: int | None = None,
        order: Sequence[str] = (),
        apart: Callable[[str], object] = lambda name: None,
    ) -> None:
        if block < ALIGN or block % ALIGN:
            raise ValueError(f"a block is a multiple of {ALIGN} bytes")
        ordered = sorted(entries, key=lambda entry: (entry.shard, entry.start, entry.stop))
        self.empty = tuple(entry.name for entry in ordered if entry.nbytes == 0)
        wanted = [entry for entry in ordered if entry.nbytes]
        self.blocks = tuple(_blocks(_runs(wanted, gap, apart), block))
        self._budget = budget
        self._in_flight = 0
        self._taken = [False] * len(self.blocks)
        self._waiting = len(self.blocks)
        self._of: dict[str, list[int]] = {}
        for each in self.blocks:
            for piece in each.pieces:
                self._of.setdefault(piece.entry.name, []).append(each.number)
        self._left = {name: len(numbers) for name, numbers in self._of.items()}
        # (rank, number): demanded blocks rank below 0 in the order of demand; old ranks of a
        # lifted block stay in the heap and are passed over.
        needed: dict[str, int] = {}
        for name in order:
            needed.setdefault(name, len(needed))
        self._heap = [(_rank(each, needed), each.number) for each in self.blocks]
        heapq.heapify(self._heap)
        self._lifts = -(1 << 62)

    def take(self) -> Block | None:
        """The next block to read; None if all are begun, or the budget is spent for now."""
        while self._heap and self._taken[self._heap[0][1]]:
            heapq.heappop(self._heap)
        if not self._heap:
            return None
        block = self.blocks[self._heap[0][1]]
        size = block.stop - block.start
        if self._budget is not None and self._in_flight and self._in_flight + size > self._budget:
            return None
        heapq.heappop(self._heap)
        self._taken[block.number] = True
        self._waiting -= 1
        self._in_flight += size
        return block

    def lift(self, names: Iterable[str]) -> None:
        """Read these tensors next, in this order; earlier demands stay ahead of later ones."""
        for name in names:
            for number in self._of.get(name, ()):
                if not self._taken[number]:
                    self._lifts += 1
                    heapq.heappush(self._heap, (self._lifts, number))

    def finish(self, block: Block) -> list[Entry]:
        """Say that a block's bytes are in place; returns the tensors that are whole by it."""
        self._in_flight -= block.stop - block.start
        whole = []
        for piece in block.pieces:
            self._left[piece.entry.name] -= 1
            if self._left[piece.entry.name] == 0:
                whole.append(piece.entry)
        return whole

    @property
    def exhausted(self) -> bool:
        """True once every block was handed out."""
        return self._waiting == 0


def _rank(block: Block, needed: Mapping[str, int]) -> int:
    if not needed:
        return 0
    return min(needed.get(piece.entry.name, len(needed)) for piece in block.pieces)


def _blocks(runs: Iterable[list[Entry]], size: int) -> Iterator[Block]:
    number = 0
    for run in runs:
        at = run[0].start // ALIGN * ALIGN
        end = run[-1].stop
        first = 0
        while at < end:
            stop = min(at + size, end)
            while run[first].stop <= at:
                first += 1
            pieces = []
            for index in range(first, len(run)):
                entry = run[index]
                if entry.start >= stop:
                    break
                pieces.append(Piece(entry, max(entry.start, at), min(entry.stop, stop)))
            if pieces:  # else the block lies in a gap
                yield Block(number, run[0].shard, at, stop, tuple(pieces))
                number += 1
            at = stop


def _runs(
    entries: Sequence[Entry], gap: int, apart: Callable[[str], object]
) -> Iterator[list[Entry]]:
    run: list[Entry] = []
    for entry in entries:
        if run and not (
            entry.shard == run[-1].shard
            and entry.start - run[-1].stop <= gap
            and apart(entry.name) == apart(run[-1].name)
        ):
            yield run
            run = []
        run.append(entry)
    if run:
        yield run
