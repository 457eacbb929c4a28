"""What undo says of itself: whether it is on, how far back it reaches, what it has undone."""

from __future__ import annotations

from dataclasses import dataclass

from zerostart_jupyter.core.wording import size


@dataclass(frozen=True, slots=True)
class Auto:
    """What `auto()` returns: `points` there are, and the bytes of memory only they hold."""

    on: bool
    points: int
    bytes: int

    def __repr__(self) -> str:
        if not self.on:
            return "Undo points are off."
        if not self.points:
            return "Undo points are on: the next cell is the first that can be undone."
        return f"Undo points are on: {self.points} kept, {size(self.bytes)} of memory."


@dataclass(frozen=True, slots=True)
class Undone:
    """What `undo()` shows: so many `cells` are undone, the first of them was `number`."""

    cells: int
    number: int

    def __repr__(self) -> str:
        cells = "1 cell" if self.cells == 1 else f"{self.cells} cells"
        return f"Back to before cell [{self.number}]: {cells} undone."


@dataclass(frozen=True, slots=True)
class Reach:
    """How far back one can go: the prompt numbers of cells that can be undone, oldest first.

    `gaps` says why the others cannot; `undone` are the first and last numbers of what was undone.
    """

    on: bool
    bytes: int
    cells: tuple[int, ...] = ()
    gaps: tuple[tuple[int, str], ...] = ()
    undone: tuple[tuple[int, int], ...] = ()
