"""The threads of one install: started together, ended together, one failure ends all."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable

from zerostart_jupyter.install.gate import gate
from zerostart_jupyter.install.retries import Stopped

Step = Callable[[], bool]


class Crew:
    """Threads that repeat a step until it returns False; `failed` is told what a step raised.

    Their own imports never wait at the gate.
    """

    def __init__(self, failed: Callable[[BaseException], None]) -> None:
        self._failed = failed
        self._threads: list[threading.Thread] = []

    def add(self, name: str, steps: Iterable[Step]) -> None:
        """One more thread for each step, which the next `start()` starts."""
        self._threads += [
            threading.Thread(target=self._run, args=(step,), name=name, daemon=True)
            for step in steps
        ]

    def start(self) -> None:
        """Start those that were not started yet."""
        waiting = [thread for thread in self._threads if thread.ident is None]
        gate.workers.update(waiting)
        for thread in waiting:
            thread.start()

    def join(self) -> None:
        """Return when the last has ended."""
        for thread in self._threads:
            if thread.ident is not None:  # it was started
                thread.join()
        gate.workers.difference_update(self._threads)

    def _run(self, step: Step) -> None:
        try:
            while step():
                pass
        except Stopped:
            pass
        except BaseException as error:
            self._failed(error)
