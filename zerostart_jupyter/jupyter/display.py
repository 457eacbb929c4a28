"""Progress where a person looks: an output of the cell (`outputs`), a line at a prompt (`console`).

The same line as text and as a small HTML bar; the saved notebook keeps the last state.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any

from zerostart_jupyter.core.activity import Activity, OperationView
from zerostart_jupyter.core.events import Event, Hub, hub
from zerostart_jupyter.jupyter.console import ConsoleLine
from zerostart_jupyter.jupyter.outputs import Outputs
from zerostart_jupyter.jupyter.where import at_a_prompt

SHOW_AFTER = 0.15  # seconds; work that ends sooner only says that it ended


class CellDisplay:
    """Shows the operations of this process in the cell that started them.

    It has to be told of cells.
    """

    def __init__(self, source: Hub | None = None) -> None:
        self._console = ConsoleLine()
        self._outputs = Outputs()
        self._hub = source or hub()
        self._activity = Activity()
        self._typed: set[str] = set()  # operations that began at a prompt
        self._closed: set[str] = set()
        self._leave: Callable[[], None] | None = None
        self._lock = threading.RLock()
        self._silent = False
        self._missed: dict[str, OperationView] = {}  # what a prompt would have shown meanwhile

    def open(self) -> None:
        """Begin to show what runs."""
        self._leave = self._hub.subscribe(self._take)

    def close(self) -> None:
        """Show nothing more."""
        if self._leave is not None:
            self._leave()
            self._leave = None

    def begin_cell(self, *_: object) -> None:
        """A cell runs from now on."""
        self._console.begin_cell()

    def end_cell(self, result: Any = None) -> None:
        """It has ended: what is behind it is drawn no more, or drawn now."""
        self._console.end_cell()
        if at_a_prompt():
            return
        self._hub.flush()
        with self._lock:
            for view in self._activity.operations.values():
                self._show(view)
        error = getattr(result, "error_before_exec", None) or getattr(result, "error_in_exec", None)
        self._outputs.end_cell(str(error) if error else None)

    def forget(self) -> None:
        """Leave alone what runs now: after a restore its output is in another kernel's cell."""
        self._lock = threading.RLock()  # who held it may be a thread that a fork did not bring
        self._silent = False
        self._missed.clear()
        for view in self._activity.operations.values():
            self._closed.add(view.id)
        self._outputs.forget()
        self._console.forget()

    def silence(self) -> None:
        """Show nothing for a while: the kernel is about to let go of its sockets."""
        with self._lock:
            self._silent = True
        self._outputs.silence()

    def resume(self) -> None:
        """Show what there is to show since then."""
        self._outputs.resume()
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
            if key not in known and key not in self._closed:
                if at_a_prompt():
                    self._typed.add(key)
                    self._console.begin(view)
                else:
                    self._outputs.begin(key)
            if view.state.final or view.seconds >= SHOW_AFTER:
                self._show(view)
        # What has ended and was shown needs no further memory here.
        self._activity = Activity(
            {k: v for k, v in self._activity.operations.items() if not v.state.final}
        )

    def _show(self, view: OperationView) -> None:
        if view.id in self._closed:
            return
        if view.id in self._typed and self._silent:
            self._missed[view.id] = view
            return
        show = self._console.show if view.id in self._typed else self._outputs.show
        show(view)
        if view.state.final:
            self._closed.add(view.id)
            self._typed.discard(view.id)
