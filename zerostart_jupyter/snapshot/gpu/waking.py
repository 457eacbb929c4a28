"""Wakes a parked kernel before its next cell: a call of CUDA would wait for ever otherwise."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused, ZerostartError

# A cell of one such line does not touch the GPU, and `park` would wake what it is to park.
_LEAVES_IT = re.compile(
    r"\s*%zs_snapshot\s+(park|wake|list|show|rename|delete|publish|doctor)\b[^\n]*\s*\Z"
)
_HOOK = "_zerostart_waking"


def wake_before_cells(shell: Any) -> Callable[[], None]:
    """Have a shell wake its kernel before each cell that needs it; returns what ends that.

    A cell whose kernel cannot be woken fails with the reason, and does not run.
    """
    known: _Hook | None = getattr(shell, _HOOK, None)
    if known is None:
        known = _Hook(shell)
        setattr(shell, _HOOK, known)
    return known.leave


class _Hook:
    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._failed: ZerostartError | None = None
        shell.events.register("pre_run_cell", self._before)
        # What a callback raises is printed, and the cell runs all the same. A transformer of the
        # syntax tree comes after it and may reject the cell.
        shell.ast_transformers.append(self)

    def leave(self) -> None:
        if getattr(self._shell, _HOOK, None) is self:
            self._shell.events.unregister("pre_run_cell", self._before)
            self._shell.ast_transformers.remove(self)
            delattr(self._shell, _HOOK)

    def _before(self, info: Any) -> None:
        self._failed = None
        if _LEAVES_IT.match(info.raw_cell or ""):
            return
        from zerostart_jupyter.snapshot.gpu import parking  # with the first cell, not before

        try:
            here = parking.Where.here()
        except SnapshotRefused:  # a terminal, or a subshell beside the main thread
            return
        if parking.is_parked(here):
            try:
                parking.wake(here)
            except ZerostartError as error:
                self._failed = error

    def visit(self, tree: Any) -> Any:
        """Let a cell pass, or reject it; called by IPython."""
        error, self._failed = self._failed, None
        if error is not None:
            from IPython.core.error import InputRejected

            self._shell.showtraceback((type(error), error, error.__traceback__))
            raise InputRejected(str(error))
        return tree
