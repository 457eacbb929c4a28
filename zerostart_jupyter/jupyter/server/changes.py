"""What happened between two readings of a status file, as the events the panel folds.

A status file holds the fold of events. Sending it whole, ten times a second, for an install of a
hundred wheels, would be megabytes; the difference is a few events.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

Operation = dict[str, Any]  # what `OperationView.as_json` gives
_OF_THE_WHOLE = ("state", "done", "total", "unit", "error")


def changes(before: Sequence[Operation], after: Sequence[Operation]) -> list[dict[str, Any]]:
    """Events that, folded into `before`, give `after`; what vanished is told by `gone`."""
    known = {operation["id"]: operation for operation in before}
    return [event for operation in after for event in _steps(known.get(operation["id"]), operation)]


def gone(before: Sequence[Operation], after: Sequence[Operation]) -> list[str]:
    """Ids of operations that are no longer there: forgotten, or of a process that ended."""
    present = {operation["id"] for operation in after}
    return [operation["id"] for operation in before if operation["id"] not in present]


def _steps(old: Operation | None, new: Operation) -> Iterator[dict[str, Any]]:
    if old == new:
        return
    if old is None:
        opening = {"state": "waiting", "done": 0, "total": None, "unit": new["unit"], "error": None}
        yield _event(new, "", opening, new["started"])
    known = {item["name"]: item for item in old["items"]} if old else {}
    for item in new["items"]:
        if known.get(item["name"]) != item:
            yield _event(new, item["name"], item, new["updated"])
    # The whole comes last: an item would set its state back to running.
    yield _event(new, "", new, new["updated"])


def _event(operation: Operation, item: str, of: Operation, time: float) -> dict[str, Any]:
    return {
        "operation": operation["id"],
        "kind": operation["kind"],
        "title": operation["title"],
        "item": item,
        "time": time,
        **{name: of[name] for name in _OF_THE_WHOLE},
    }
