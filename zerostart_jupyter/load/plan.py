"""Which bytes to read next, in what pieces. Pure: no file, no thread, no clock.

Wanted tensors become blocks: runs of bytes, cut at multiples of the alignment, read in file
order or in one that is given. `lift` moves the blocks of a tensor somebody waits for to the front.
Large blocks are read in steps, and what somebody waits for comes between two of them.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from operator import attrgetter
from typing import NamedTuple

from zerostart_jupyter.load.checkpoint import Entry

ALIGN = 4096  # bytes: the page, and the largest logical block O_DIRECT is known to ask for
GAP = 1 << 20  # bytes of unwanted data that are cheaper to read than to skip
FEW = 16  # tensors at most that come between steps: many are faster in the order of the file
BETWEEN = -1  # the number of what is no block of the plan


class Piece(NamedTuple):
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
        """Bytes of tensors in the block: less than its length where it was aligned, more where
        tensors are tied."""
        return sum(piece.stop - piece.start for piece in self.pieces)

    def steps(self, size: int) -> Iterator[Block]:
        """The block in parts of `size` bytes, a multiple of the alignment; each has all pieces."""
        for at in range(self.start, self.stop, size):
            yield replace(self, start=at, stop=min(at + size, self.stop))


class Plan:
    """Hands out blocks in the order of need. Not thread-safe: its user holds a lock.

    `budget` bounds the bytes in flight; one block is always allowed. `order` names tensors in the
    order of need; those it leaves out come last. Tensors for which `apart` gives different
    values share no block. Where blocks are larger than a `step`, `between` has what cannot wait
    for the end of one.
    """

    def __init__(
        self,
        entries: Iterable[Entry],
        *,
        block: int,
        gap: int = GAP,
        budget: int | None = None,
        order: Sequence[str] = (),
        apart: Callable[[str], object] | None = None,
        step: int | None = None,
    ) -> None:
        if block < ALIGN or block % ALIGN:
            raise ValueError(f"a block is a multiple of {ALIGN} bytes")
        ordered = sorted(entries, key=attrgetter("shard", "start", "stop"))
        self.empty = tuple(entry.name for entry in ordered if entry.start == entry.stop)
        wanted = [entry for entry in ordered if entry.start < entry.stop]
        self.blocks = tuple(_blocks(_runs(wanted, gap, apart), block))
        self.nbytes = sum(each.stop - each.start for each in self.blocks)
        self._step = step if step is not None and step < block else None
        self._urgent: deque[Block] = deque()
        self._parts: dict[str, int] = {}  # of a tensor that is urgent: those not read yet
        self._budget = budget
        self._in_flight = 0
        self._taken = [False] * len(self.blocks)
        self._waiting = len(self.blocks)
        # The blocks of a tensor follow one another.
        self._first: dict[str, int] = {}
        self._last: dict[str, int] = {}
        for each in self.blocks:
            for piece in each.pieces:
                self._first.setdefault(piece.entry.name, each.number)
                self._last[piece.entry.name] = each.number
        self._left = {name: last - self._first[name] + 1 for name, last in self._last.items()}
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
        names = list(names)
        for name in names:
            for number in range(self._first.get(name, 0), self._last.get(name, -1) + 1):
                if not self._taken[number]:
                    self._lifts += 1
                    heapq.heappush(self._heap, (self._lifts, number))
        if self._step is not None and len(names) <= FEW:
            for name in names:
                self._hurry(name, self._step)

    def between(self) -> Block | None:
        """What is to be read before the next step of a block: of a tensor that somebody waits for.

        Its bytes are those of blocks, which are read all the same.
        """
        while self._urgent:
            part = self._urgent.popleft()
            if self._left[part.pieces[0].entry.name] > 0:
                return part
        return None

    def finish(self, block: Block) -> list[Entry]:
        """Say that a block's bytes are in place; returns the tensors that are whole by it."""
        if block.number == BETWEEN:
            entry = block.pieces[0].entry
            self._parts[entry.name] -= 1
            if self._parts[entry.name] > 0 or self._left[entry.name] <= 0:
                return []
            self._left[entry.name] = 0  # its blocks are to come, and will not make it whole again
            return [entry]
        self._in_flight -= block.stop - block.start
        whole = []
        for entry, _, _ in block.pieces:
            left = self._left[entry.name] = self._left[entry.name] - 1
            if left == 0:
                whole.append(entry)
        return whole

    def _hurry(self, name: str, step: int) -> None:
        if self._left.get(name, 0) <= 0 or name in self._parts:
            return
        pieces = self.blocks[self._first[name]].pieces
        entry = next(piece.entry for piece in pieces if piece.entry.name == name)
        whole = (Piece(entry, entry.start, entry.stop),)
        start = entry.start // ALIGN * ALIGN
        parts = list(Block(BETWEEN, entry.shard, start, entry.stop, whole).steps(step))
        self._parts[name] = len(parts)
        self._urgent.extend(parts)

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
        end = max(entry.stop for entry in run)  # tied tensors overlap
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
                begin, until = entry.start, entry.stop
                if until <= at:
                    continue
                # Not max and min: this is half of the time that planning takes.
                pieces.append(
                    Piece(entry, begin if begin > at else at, until if until < stop else stop)
                )
            if pieces:  # else the block lies in a gap
                yield Block(number, run[0].shard, at, stop, tuple(pieces))
                number += 1
            at = stop


def _runs(
    entries: Sequence[Entry], gap: int, apart: Callable[[str], object] | None
) -> Iterator[list[Entry]]:
    run: list[Entry] = []
    shard, stop, kind = -1, 0, None
    for entry in entries:
        own = None if apart is None else apart(entry.name)
        if run and not (entry.shard == shard and entry.start - stop <= gap and own == kind):
            yield run
            run = []
        stop = max(stop, entry.stop) if run else entry.stop
        run.append(entry)
        shard, kind = entry.shard, own
    if run:
        yield run
