"""An undo point made durable: the frozen process saves what it holds, and stays an undo point.

It is a kernel without threads or sockets, so what it can save is its names; a fork of it does,
and it stays as it was.
"""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import cell_times, forked, wire
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.catalog import Catalog
from zerostart_jupyter.snapshot.launch import die_with_parent
from zerostart_jupyter.snapshot.portable.saving import Request, save


def promote(
    name: str,
    cells: int,
    *,
    notebook: str | None = None,
    replace: bool = False,
    reseed: bool = True,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> dict[str, Any]:
    """Save, under a name, the kernel as it was before the last so many cells.

    Raises SnapshotRefused where there is no such point, Cancelled, and as `snapshot` does.
    """
    settings = settings or Settings.read()
    Catalog(settings).check(name, replace=replace)
    reason = "an undo point has no threads to save"
    request = Request(
        *(name, reason, notebook, 0.0, replace, reseed),
        running=False,
        encrypted=LiveKernel.current().encrypted,
    )
    order = {"kind": "save", "request": asdict(request), "cache": str(settings.cache)}
    with operation("snapshot", name, unit="steps", hub=hub) as work:
        body: dict[str, Any] = forked.ask(cells, order, "saved", work)["saved"]
    return body


def obey(shell: Any, order: wire.Message, answers: int) -> None:
    """In the frozen process: save in a fork, and answer when that is done."""
    pid = os.fork()
    if pid:
        _, status = os.waitpid(pid, 0)
        if os.waitstatus_to_exitcode(status):
            error = SnapshotError(
                "The process that wrote the snapshot was ended.",
                remedy="Free some memory, and save again.",
            )
            wire.send(answers, wire.describe(error))
        return
    try:
        die_with_parent()
        request = Request(**order["request"] | {"kernel_seconds": cell_times.rerun_seconds()})
        body = save(request, shell, Settings.read(cache=Path(order["cache"])))
        wire.send(answers, {"kind": "saved", "saved": body})
    except BaseException as error:
        wire.send(answers, wire.describe(error))
    finally:
        os._exit(0)
