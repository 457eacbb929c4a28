"""Other libraries' messages, cut to what fits into one of ours."""

from __future__ import annotations


def first_line(error: BaseException) -> str:
    """The first line of an exception's text without its full stop, or its type's name."""
    return (str(error).splitlines() or [type(error).__name__])[0].rstrip(".")
