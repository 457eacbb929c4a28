"""What `%load_ext zerostart` hooks into a shell, and takes away again."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.jupyter.completion import Completion
from zerostart_jupyter.jupyter.config import Zerostart
from zerostart_jupyter.jupyter.display import CellDisplay
from zerostart_jupyter.jupyter.magics import ZerostartMagics
from zerostart_jupyter.jupyter.missing import MissingImports
from zerostart_jupyter.jupyter.points import UndoPoints
from zerostart_jupyter.jupyter.status import KernelStatus
from zerostart_jupyter.jupyter.widgets import show_again
from zerostart_jupyter.snapshot.cell_times import times
from zerostart_jupyter.snapshot.gpu.waking import wake_before_cells
from zerostart_jupyter.snapshot.hooks import on_restored, on_returned, on_silence

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

_LOADED = "_zerostart"


@dataclass
class _Loaded:
    config: Zerostart
    display: CellDisplay
    status: KernelStatus
    completion: Completion
    points: UndoPoints
    missing: MissingImports
    forget_restored: Callable[[], None]
    forget_returned: Callable[[], None]
    forget_times: Callable[[], None]
    forget_parked: Callable[[], None]
    forget_silence: Callable[[], None]

    def restored(self) -> None:
        """This kernel woke up as another one: its progress belongs to another cell and file."""
        self.display.close()
        self.display.forget()
        self.display.open()  # a forked kernel's hub has forgotten who listened
        self.status.move()


def load(shell: InteractiveShell) -> None:
    """Register magics, completion, progress display, status file and `%config Zerostart`."""
    if getattr(shell, _LOADED, None) is not None:
        return
    config = Zerostart(parent=shell)
    shell.configurables.append(config)
    magics = ZerostartMagics(shell, config)
    shell.register_magics(magics)
    status = KernelStatus()
    points = UndoPoints(shell, lambda state: status.note("undo", state))
    loaded = _Loaded(
        config,
        CellDisplay(),
        status,
        Completion(shell, config),
        points,
        MissingImports(shell, config),
        *[lambda: None] * 5,
    )
    loaded.forget_restored = on_restored(loaded.restored)
    loaded.forget_returned = on_returned(show_again)
    loaded.forget_silence = on_silence(loaded.display.silence, loaded.display.resume)
    loaded.forget_parked = wake_before_cells(shell)
    loaded.forget_times = times().watch(shell.events)
    loaded.display.open()
    shell.events.register("pre_run_cell", loaded.display.begin_cell)
    shell.events.register("post_run_cell", loaded.display.end_cell)
    loaded.status.open()
    loaded.completion.open()
    loaded.points.open()
    loaded.missing.open()
    setattr(shell, _LOADED, loaded)


def unload(shell: InteractiveShell) -> None:
    """Undo `load`: nothing of ours stays behind in the shell."""
    loaded: _Loaded | None = getattr(shell, _LOADED, None)
    if loaded is None:
        return
    loaded.forget_restored()
    loaded.forget_returned()
    loaded.forget_times()
    loaded.forget_parked()
    loaded.forget_silence()
    loaded.missing.close()
    loaded.points.close()
    loaded.completion.close()
    loaded.status.close()
    loaded.display.close()
    shell.events.unregister("pre_run_cell", loaded.display.begin_cell)
    shell.events.unregister("post_run_cell", loaded.display.end_cell)
    shell.configurables.remove(loaded.config)
    table: dict[str, dict[str, Any]] = shell.magics_manager.magics
    for kind in ("line", "cell"):
        for name in ("zs_install", "zs_load", "zs_snapshot"):
            table[kind].pop(name, None)
    setattr(shell, _LOADED, None)
