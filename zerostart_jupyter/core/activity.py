"""The fold of events into what a person sees; the panel folds the same way in TypeScript.

`tests/corpus/activity.json` holds event lists and the fold expected of them; pytest and jest
both read it, so the two sides cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from zerostart_jupyter.core.events import Event, State


@dataclass(frozen=True, slots=True)
class Item:
    """One distribution, shard or step of an operation."""

    name: str
    state: State
    done: float
    total: float | None
    unit: str
    error: str | None


@dataclass(frozen=True, slots=True)
class OperationView:
    """One operation as the cell, the panel and the command line show it.

    `rate` is in units a second over the whole operation; `seconds_left` is None while the total
    or the rate is unknown.
    """

    id: str
    kind: str
    title: str
    state: State
    started: float
    updated: float
    done: float = 0
    total: float | None = None
    unit: str = "bytes"
    error: str | None = None
    items: tuple[Item, ...] = ()

    @property
    def seconds(self) -> float:
        """How long it has run, by its own events."""
        return max(0.0, self.updated - self.started)

    @property
    def rate(self) -> float:
        """Units a second, 0 while nothing has arrived."""
        return self.done / self.seconds if self.seconds > 0 else 0.0

    @property
    def seconds_left(self) -> float | None:
        """Predicted from the rate so far."""
        if self.state.final or self.total is None or self.rate <= 0:
            return None
        return max(0.0, (self.total - self.done) / self.rate)

    @property
    def current(self) -> str:
        """The item in work that began first, or ""."""
        return next((item.name for item in self.items if item.state is State.RUNNING), "")

    def as_json(self) -> dict[str, Any]:
        """A plain object for status files and events."""
        return {
            "id": self.id,
            "kind": self.kind,
            "title": self.title,
            "state": str(self.state),
            "started": self.started,
            "updated": self.updated,
            "done": self.done,
            "total": self.total,
            "unit": self.unit,
            "error": self.error,
            "rate": self.rate,
            "seconds_left": self.seconds_left,
            "current": self.current,
            "items": [
                {
                    "name": item.name,
                    "state": str(item.state),
                    "done": item.done,
                    "total": item.total,
                    "unit": item.unit,
                    "error": item.error,
                }
                for item in self.items
            ],
        }


@dataclass(frozen=True, slots=True)
class Activity:
    """All operations that are known, in the order in which they began."""

    operations: Mapping[str, OperationView] = field(default_factory=dict)

    def fold(self, events: Iterable[Event]) -> Activity:
        """A new activity with these events taken in; the old one is left alone."""
        operations = dict(self.operations)
        for event in events:
            operations[event.operation] = _step(operations.get(event.operation), event)
        return Activity(operations)

    def as_json(self) -> list[dict[str, Any]]:
        """A list of plain objects, oldest first."""
        return [view.as_json() for view in self.operations.values()]


def _step(view: OperationView | None, event: Event) -> OperationView:
    if view is None:
        view = OperationView(
            event.operation,
            event.kind,
            event.title,
            State.WAITING,
            started=event.time,
            updated=event.time,
            unit=event.unit,
        )
    updated = max(view.updated, event.time)
    if event.item == "":
        # Items are proof of work: an operation that has some is no longer waiting.
        begun = event.state is State.WAITING and view.items
        return replace(
            view,
            state=State.RUNNING if begun else event.state,
            updated=updated,
            done=event.done,
            total=event.total,
            unit=event.unit,
            error=event.error,
        )
    item = Item(event.item, event.state, event.done, event.total, event.unit, event.error)
    names = [known.name for known in view.items]
    items = list(view.items)
    if item.name in names:
        items[names.index(item.name)] = item
    else:
        items.append(item)
    state = view.state if view.state.final else State.RUNNING
    return replace(view, state=state, updated=updated, items=tuple(items))
