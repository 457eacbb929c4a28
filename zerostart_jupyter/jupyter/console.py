"""Progress at a prompt: one line of text that is written over, and a closing line that stays.

A bar is drawn only while the cell runs in which the work began. What goes on behind the next
prompt says no more than that it ended: there a person is typing.
"""

from __future__ import annotations

import shutil
import sys
import threading

from zerostart_jupyter.core.activity import OperationView
from zerostart_jupyter.core.wording import line


class ConsoleLine:
    """The line at which a console writes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()  # cells begin in one thread, progress comes from another
        self._cell = 0
        self._running = False
        self._drawn = 0  # characters of the bar that is there now
        self._began: dict[str, int] = {}  # operation -> the cell it began in

    def begin_cell(self, *_: object) -> None:
        """A cell runs from now on."""
        with self._lock:
            self._cell += 1
            self._running = True

    def end_cell(self, *_: object) -> None:
        """It has ended: what it has drawn goes away before the prompt comes."""
        with self._lock:
            self._running = False
            if self._drawn:
                self._write("\r" + " " * self._drawn + "\r")
                self._drawn = 0

    def forget(self) -> None:
        """In a kernel that woke up as another one: what was drawn is in another client's cell."""
        self._lock = threading.Lock()  # who held it may be a thread that a fork did not bring
        self._drawn = 0
        self._began.clear()

    def begin(self, view: OperationView) -> None:
        """An operation has begun, in the cell that runs now or behind it."""
        with self._lock:
            self._began[view.id] = self._cell if self._running else -1

    def show(self, view: OperationView) -> None:
        """Draw how far it is, or say that it ended."""
        with self._lock:
            if view.state.final:
                self._began.pop(view.id, None)
                self._write(f"\r{self._padded(line(view))}\n" if self._drawn else f"{line(view)}\n")
                self._drawn = 0
            elif self._running and self._began.get(view.id) == self._cell and _redraws():
                # A kernel does not know its client's terminal: 80, or what COLUMNS says.
                bar = line(view, width=shutil.get_terminal_size().columns - 1)
                self._write(f"\r{self._padded(bar)}")
                self._drawn = len(bar)

    def _padded(self, text: str) -> str:
        return text.ljust(self._drawn)

    def _write(self, text: str) -> None:
        sys.stdout.write(text)
        sys.stdout.flush()


def _redraws() -> bool:
    """Whether what is written goes to somebody who sees a line change, and not into a file."""
    return "ipykernel.kernelapp" in sys.modules or sys.stdout.isatty()
