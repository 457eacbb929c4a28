"""Progress in the cell: one output per operation, updated in place, good on paper.

The same line as text and as a small HTML bar; the saved notebook keeps the last state. At most
ten updates a second, because the hub coalesces. In a terminal only the closing line is printed.
"""

from __future__ import annotations

import html
import sys
from collections.abc import Callable, Sequence
from typing import Any

from zerostart_jupyter.core.activity import Activity, OperationView
from zerostart_jupyter.core.events import Event, Hub, hub
from zerostart_jupyter.core.wording import line

SHOW_AFTER = 0.15  # seconds; work that ends sooner only says that it ended


class CellDisplay:
    """Shows the operations of this process in the cell that started them."""

    def __init__(self, source: Hub | None = None) -> None:
        self._hub = source or hub()
        self._activity = Activity()
        self._shown: dict[str, Any] = {}
        self._closed: set[str] = set()
        self._leave: Callable[[], None] | None = None

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
        for view in self._activity.operations.values():
            self._closed.add(view.id)
        self._shown.clear()

    def _take(self, events: Sequence[Event]) -> None:
        self._activity = self._activity.fold(events)
        for key in dict.fromkeys(event.operation for event in events):
            self._show(self._activity.operations[key])
        # What has ended and was shown needs no further memory here.
        self._activity = Activity(
            {k: v for k, v in self._activity.operations.items() if not v.state.final}
        )

    def _show(self, view: OperationView) -> None:
        if view.id in self._closed or (not view.state.final and view.seconds < SHOW_AFTER):
            return
        if view.state.final:
            self._closed.add(view.id)
        if not has_display():
            if view.state.final:
                print(line(view))
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


def has_display() -> bool:
    """Whether what is displayed reaches a notebook, and not a terminal."""
    kernelapp = sys.modules.get("ipykernel.kernelapp")
    return kernelapp is not None and kernelapp.IPKernelApp.initialized()


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
