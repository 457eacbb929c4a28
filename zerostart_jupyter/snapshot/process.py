"""The process tier's state machine: what follows what, and how each step is undone.

    idle → preflight → quiescing → [gpu-locked → gpu-checkpointed →] dumping → resuming → indexing
         → ready

Every state may also lead to `failed`, and then all that was done is undone, last first. In a
kernel that wakes up from the images `dumping` leads to `restored` instead.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType


class State(StrEnum):
    """Where a save stands."""

    IDLE = "idle"
    PREFLIGHT = "preflight"
    QUIESCING = "quiescing"
    GPU_LOCKED = "gpu-locked"
    GPU_CHECKPOINTED = "gpu-checkpointed"
    DUMPING = "dumping"
    RESUMING = "resuming"
    INDEXING = "indexing"
    READY = "ready"
    RESTORED = "restored"
    FAILED = "failed"


NEXT: dict[State, frozenset[State]] = {
    State.IDLE: frozenset({State.PREFLIGHT, State.FAILED}),
    State.PREFLIGHT: frozenset({State.QUIESCING, State.FAILED}),
    State.QUIESCING: frozenset({State.GPU_LOCKED, State.DUMPING, State.FAILED}),
    State.GPU_LOCKED: frozenset({State.GPU_CHECKPOINTED, State.FAILED}),
    State.GPU_CHECKPOINTED: frozenset({State.DUMPING, State.FAILED}),
    State.DUMPING: frozenset({State.RESUMING, State.RESTORED, State.FAILED}),
    State.RESUMING: frozenset({State.INDEXING, State.FAILED}),
    State.INDEXING: frozenset({State.READY, State.FAILED}),
    State.READY: frozenset(),
    State.RESTORED: frozenset(),
    State.FAILED: frozenset(),
}
FINAL = frozenset(state for state, following in NEXT.items() if not following)


class Save:
    """One run through the machine, as a context manager.

    `told` hears of each state. Leaving with an error undoes what is not undone yet and ends in
    `failed`; an undo that fails does not keep the others from running.
    """

    def __init__(self, told: Callable[[State], None] = lambda state: None) -> None:
        self.state = State.IDLE
        self._told = told
        self._undos = contextlib.ExitStack()

    def enter(self, state: State, undo: Callable[[], object] | None = None) -> None:
        """Go on to a state; `undo` takes back what is about to be done in it."""
        if state not in NEXT[self.state]:
            raise ValueError(f"{self.state} does not lead to {state}")
        self.state = state
        if undo is not None:
            self._undos.callback(undo)
        self._told(state)

    def undo(self) -> None:
        """Take back all that was done, last first; used on the good way too."""
        self._undos.close()

    def forget(self) -> None:
        """Nothing is to be taken back: this process is another one now."""
        self._undos.pop_all()

    def __enter__(self) -> Save:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if error is not None and self.state not in FINAL:
            try:
                self.undo()
            finally:
                self.enter(State.FAILED)
