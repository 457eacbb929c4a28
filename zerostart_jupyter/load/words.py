"""Words for messages: other libraries' cut to what fits into one of ours, names that are meant."""

from __future__ import annotations

import bisect
import difflib
from collections.abc import Collection

NEAR = 50  # names to either side that are compared letter by letter: that takes long


def first_line(error: BaseException) -> str:
    """The first line of an exception's text without its full stop, or its type's name."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")


def closest(name: str, names: Collection[str]) -> str | None:
    """The one of these names that is most like this one, among those that begin or end like it."""
    near: list[str] = []
    for way in (slice(None), slice(None, None, -1)):
        ordered = sorted(each[way] for each in names)
        at = bisect.bisect(ordered, name[way])
        near += [each[way] for each in ordered[max(0, at - NEAR) : at + NEAR]]
    return next(iter(difflib.get_close_matches(name, near, n=1)), None)
