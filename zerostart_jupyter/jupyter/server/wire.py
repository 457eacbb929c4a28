"""The shape of an operation on its way from a status file to the panel, checked by hand.

A file is read up to five times a second and may hold thousands of items: a general JSON-schema
validator takes a hundred times as long. Unknown keys are left out, so that a newer kernel may
write more than an older server knows.
"""

from __future__ import annotations

import math
from typing import Any

from zerostart_jupyter.core.events import State

_STATES = frozenset(str(state) for state in State)


def operations(body: Any) -> list[dict[str, Any]]:
    """The operations of a status file; raises KeyError, TypeError or ValueError."""
    found = [_operation(each) for each in _list(body)]
    if len({each["id"] for each in found}) != len(found):
        raise ValueError("an operation occurs twice")
    return found


def undo(body: Any) -> dict[str, Any] | None:
    """What a kernel says of its undo points; None if it says nothing."""
    if body is None:
        return None
    if not isinstance(body["on"], bool):
        raise TypeError("not a truth")
    return {
        "on": body["on"],
        "bytes": _number(body["bytes"]),
        "cells": [[_number(number), _number(checksum)] for number, checksum in body["cells"]],
        "gaps": [
            [_number(number), _number(checksum), _text(reason)]
            for number, checksum, reason in body["gaps"]
        ],
        "undone": [[_number(number), _number(checksum)] for number, checksum in body["undone"]],
    }


def _operation(body: Any) -> dict[str, Any]:
    items = [{"name": _text(each["name"]), **_progress(each)} for each in _list(body["items"])]
    if len({item["name"] for item in items}) != len(items) or any(not i["name"] for i in items):
        raise ValueError("an item occurs twice, or has no name")
    return {
        "id": _text(body["id"]),
        "kind": _text(body["kind"]),
        "title": _text(body["title"]),
        "started": _number(body["started"]),
        "updated": _number(body["updated"]),
        **_progress(body),
        "items": items,
    }


def _progress(body: Any) -> dict[str, Any]:
    state, total, error = body["state"], body["total"], body["error"]
    if state not in _STATES:
        raise ValueError(f"not a state: {state!r}")
    return {
        "state": state,
        "done": _number(body["done"]),
        "total": None if total is None else _number(total),
        "unit": _text(body["unit"]),
        "error": None if error is None else _text(error),
    }


def _list(value: Any) -> list[Any]:
    if not isinstance(value, list):
        raise TypeError("not a list")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("not a text")
    return value


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise TypeError("not a number")
    return value
