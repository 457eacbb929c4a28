"""What a person sees of an import that waits: what it waits for, and that it may be interrupted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Sequence
from types import TracebackType

from zerostart_jupyter.core.events import Operation, State, operation

SHOW_AFTER = 0.5  # seconds


class Waiting:
    """One wait; `look()` is called now and then with what is still awaited."""

    def __init__(self, what: str, *, shown: bool = True) -> None:
        self._what = what
        self._shown = shown
        self._started = time.monotonic()
        self._stack = contextlib.ExitStack()
        self._work: Operation | None = None
        self._left: list[str] = []
        self._seen: set[str] = set()

    def __enter__(self) -> Waiting:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._stack.__exit__(kind, error, trace)
        if isinstance(error, KeyboardInterrupt):
            raise interrupted(self._what, self._left) from None

    def look(self, left: Sequence[str]) -> None:
        """Take note of what has not come; raises Cancelled if this wait is not wanted any more."""
        self._left = sorted(left)
        self._seen.update(left)
        if self._work is None:
            if not self._shown or time.monotonic() - self._started < SHOW_AFTER:
                return
            self._work = self._stack.enter_context(
                operation("import", self._what, unit="distributions")
            )
        self._work.check()
        for name in self._seen - set(left):
            self._work.update(name, 1, 1, state=State.DONE)
        for name in self._left[:1]:
            self._work.update(name, 0, 1)
        self._work.update("", len(self._seen) - len(left), len(self._seen))


def interrupted(what: str, left: Sequence[str]) -> KeyboardInterrupt:
    """An interrupt that says in one line what was awaited, and that only the waiting has ended."""
    names = ", ".join(left[:3]) + (f" and {len(left) - 3} more" if len(left) > 3 else "")
    error = KeyboardInterrupt(
        f"{what} was waiting for {names or 'the names of packages'}, which goes on arriving; "
        "run this again to use it."
    )
    setattr(error, "_render_traceback_", lambda: [f"KeyboardInterrupt: {error}"])  # noqa: B010
    return error
