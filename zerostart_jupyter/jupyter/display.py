"""Progress in the cell: one output per operation, updated in place, good on paper.

The same line as text and as a small HTML bar; the saved notebook keeps the last state. At most
ten updates a second, because the hub coalesces. At a prompt it is a line of text (`console`).
"""

from __future__ import annotations

import html
import threading
from collections.abc import Callable, Sequence
from typing import Any

from zerostart_jupyter.core.activity import Activity, OperationView
from zerostart_jupyter.core.events import Event, Hub, hub
from zerostart_jupyter.core.wording import line
from zerostart_jupyter.jupyter.console import ConsoleLine
from zerostart_jupyter.jupyter.where import at_a_prompt

SHOW_AFTER = 0.15  # seconds; work that ends sooner only says that it ended


class CellDisplay:
    """Shows the operations of this process in the cell that started them.

    `console` has to be told of cells; it is used for those that were typed at a prompt.
    """

    def __init__(self, source: Hub | None = None) -> None:
        self.console = ConsoleLine()
        self._hub = source or hub()
        self._activity = Activity()
        self._typed: set[str] = set()  # operations that began at a prompt
        self._shown: dict[str, Any] = {}
        self._closed: set[str] = set()
        self._leave: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._silent = False
        self._missed: dict[str, OperationView] = {}  # what would have been shown meanwhile

    def open(self) -> None:
        """Begin to show what runs."""
        self._leave = self._hub.subscribe(self._take)

    def close(self) -> None:
        """Show nothing more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def forget(self) -> None:
        """Leave alone what runs now: after a restore its output is in another kernel's cell."""
        self._lock = threading.RLock()  # who held it may be a thread that a fork did not bring
        self._silent = False
        self._missed.clear()
        for view in self._activity.operations.values():
            self._closed.add(view.id)
        self._shown.clear()
        self.console.forget()

    def silence(self) -> None:
        """Show nothing for a while: the kernel is about to let go of its sockets."""
        with self._lock:
            self._silent = True

    def resume(self) -> None:
        """Show what there is to show since then."""
        with self._lock:
            self._silent = False
            missed = list(self._missed.values())
            self._missed.clear()
            for view in missed:
                self._show(view)

    def _take(self, events: Sequence[Event]) -> None:
        with self._lock:
            self._fold(events)

    def _fold(self, events: Sequence[Event]) -> None:
        known = self._activity.operations
        self._activity = self._activity.fold(events)
        for key in dict.fromkeys(event.operation for event in events):
            view = self._activity.operations[key]
            if key not in known and key not in self._closed and at_a_prompt():
                self._typed.add(key)
                self.console.begin(view)
            self._show(view)
        # What has ended and was shown needs no further memory here.
        self._activity = Activity(
            {k: v for k, v in self._activity.operations.items() if not v.state.final}
        )

    def _show(self, view: OperationView) -> None:
        if view.id in self._closed or (not view.state.final and view.seconds < SHOW_AFTER):
            return
        if self._silent:
            self._missed[view.id] = view
            return
        if view.state.final:
            self._closed.add(view.id)
        if view.id in self._typed:
            self.console.show(view)
            if view.state.final:
                self._typed.discard(view.id)
            return
        handle = self._shown.get(view.id)
        if handle is None:
            from IPython.display import DisplayHandle

            handle = self._shown[view.id] = DisplayHandle()
            handle.display(_bundle(view), raw=True)
        else:
            handle.update(_bundle(view), raw=True)
        if view.state.final:
            del self._shown[view.id]


def _bundle(view: OperationView) -> dict[str, str]:
    text = line(view)
    share = ""
    if not view.state.final and view.total:
        share = f'<progress value="{view.done}" max="{view.total}" style="width:12em"></progress> '
    words = html.escape(text.replace("━", "").strip() if share else text)
    return {
        "text/plain": text,
        "text/html": f'<div class="zs-progress" role="status">{share}<code>{words}</code></div>',
    }
