"""Outputs of cells: one for each operation, where it began, at most ten messages a second.

Work that ended before it was worth a bar shares an output with its like in the same cell: a loop
over a hundred files says how many they were, and not so a hundred times. The limit is one for all,
since it is there for those who carry and draw them; what it held back goes out when the cell ends.
"""

from __future__ import annotations

import contextlib
import html
import re
import threading
import time
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

from zerostart_jupyter.core.activity import OperationView
from zerostart_jupyter.core.events import State
from zerostart_jupyter.core.wording import line

PER_SECOND = 10  # messages, of all outputs together
MIME = "application/vnd.zerostart.operation+json"  # for the panel, which knows the rest
THREAD = "zerostart-display"  # brings what was held back, should nothing else happen


@dataclass(eq=False)
class _Output:
    cell: dict[str, Any]  # the header of the request that began the work
    view: OperationView
    more: int = 0  # operations like it that it speaks of too
    told: bool = False  # the cell itself tells why it failed
    handle: Any = None

    def take_in(self, view: OperationView) -> None:
        """Speak of one more, which ended as quickly."""
        self.more += 1
        ended = view.started + self.view.seconds + view.seconds
        done = self.view.done + view.done
        self.view = replace(view, title=self.view.title, updated=ended, done=done)


class Outputs:
    """What the cells of this kernel show of operations. Safe to use from any thread."""

    def __init__(self) -> None:
        self._begin()

    def _begin(self) -> None:
        self._lock = threading.RLock()
        self._of: dict[str, _Output] = {}  # by operation, while it runs
        self._cells: dict[str, dict[str, Any]] = {}  # where operations began that show nothing yet
        self._short: dict[tuple[str, str, State], _Output] = {}
        self._failed: list[_Output] = []  # since a cell has ended
        self._due: dict[_Output, None] = {}  # what has something to say, longest waiting first
        self._sent: deque[float] = deque(maxlen=PER_SECOND)
        self._timer: threading.Timer | None = None
        self._silent = False

    def forget(self) -> None:
        """In a kernel that woke up as another one: what was shown is in another client's cell."""
        self._begin()

    def begin(self, operation: str) -> None:
        """Remember that it began in the cell that runs now."""
        with self._lock:
            self._cells[operation] = _running_cell()

    def show(self, view: OperationView) -> None:
        """Say how far it is, or that it ended."""
        with self._lock:
            output = self._of.get(view.id)
            if output is not None:
                output.view = view
            else:
                cell = self._cells.pop(view.id, {})
                output = self._like(cell, view) if view.state.final else _Output(cell, view)
            if view.state.final:
                self._of.pop(view.id, None)
            else:
                self._of[view.id] = output
            if view.state is State.FAILED:
                self._failed.append(output)
            self._due[output] = None
            self._send()

    def end_cell(self, error: str | None) -> None:
        """Show all there is to show of the cell that has ended, with this error."""
        with self._lock:
            for output in self._failed:
                if error and output.view.error and output.view.error in error:
                    output.told = True
                    self._due[output] = None
            self._failed.clear()
            self._short.clear()
            self._send(all=True)

    def silence(self) -> None:
        """Send nothing for a while: the kernel is about to let go of its sockets."""
        with self._lock:
            self._silent = True

    def resume(self) -> None:
        """Send what there is since then."""
        with self._lock:
            self._silent = False
            self._send()

    def _like(self, cell: dict[str, Any], view: OperationView) -> _Output:
        key = (cell.get("msg_id", ""), view.kind, view.state)
        output = self._short.get(key)
        if output is None:
            output = self._short[key] = _Output(cell, view)
        else:
            output.take_in(view)
        return output

    def _send(self, *, all: bool = False) -> None:
        while self._due and not self._silent:
            wait = 0.0
            if len(self._sent) == PER_SECOND:
                wait = self._sent[0] + 1 - time.monotonic()
            if wait > 0 and not all:
                self._send_later(wait)
                return
            output = next(iter(self._due))
            del self._due[output]
            self._sent.append(time.monotonic())
            _publish(output)

    def _send_later(self, wait: float) -> None:
        if self._timer is None:
            self._timer = threading.Timer(wait, self._late)
            self._timer.daemon, self._timer.name = True, THREAD
            self._timer.start()

    def _late(self) -> None:
        with self._lock:
            self._timer = None
            self._send()


def _publisher() -> Any:
    from IPython.core.interactiveshell import InteractiveShell

    return InteractiveShell.instance().display_pub


def _running_cell() -> dict[str, Any]:
    return dict(_publisher().parent_header or {})


@contextlib.contextmanager
def _part_of(cell: dict[str, Any]) -> Iterator[None]:
    publisher = _publisher()
    token = publisher.set_thread_parent(cell)
    try:
        yield
    finally:
        publisher.reset_thread_parent(token)


def _publish(output: _Output) -> None:
    from IPython.display import DisplayHandle

    said = _bundle(output)
    if output.handle is not None:
        # Found by its id, whichever cell runs now: nbclient reads no other cell's messages.
        output.handle.update(said, raw=True)
        return
    output.handle = DisplayHandle()
    with _part_of(output.cell):
        output.handle.display(said, raw=True)


def _bundle(output: _Output) -> dict[str, Any]:
    view = output.view
    text = line(view, more=output.more, why=not output.told)
    if view.state.final:
        return {"text/plain": text, "text/html": _html(text)}
    # Where there is a bar, none is drawn with letters.
    words = re.sub(r"  ━* *", "  ", text) if view.total else text
    said = {"operation": view.id, "title": view.title, "done": view.done, "total": view.total}
    bar = ""
    if view.total:
        label = html.escape(view.title)
        bar = (
            f'<progress value="{view.done}" max="{view.total}" aria-label="{label}"'
            ' style="width:12em"></progress> '
        )
    return {MIME: said | {"text": words}, "text/plain": text, "text/html": _html(words, bar)}


def _html(words: str, bar: str = "") -> str:
    return f'<div class="zs-progress">{bar}<code>{html.escape(words)}</code></div>'
