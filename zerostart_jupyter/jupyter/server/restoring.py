"""A running kernel put back into the state of a snapshot, as a restart with another command."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.jupyter.provisioner import ZerostartProvisioner, adopt
from zerostart_jupyter.jupyter.server.sources import Found
from zerostart_jupyter.jupyter.where import status_directory

POLL = 0.1  # seconds between two looks whether what is being restored still lives


class StartedAnew(SnapshotError):
    """A restore failed once the old process was gone: the kernel is a fresh one now."""


async def in_place(kernels: Any, kernel: str, snapshot: str) -> None:
    """Replace the process behind a kernel id and wait until the new one answers.

    `kernels` is the server's kernel manager, `snapshot` an id. Whatever can be checked is checked
    while the old process lives: SnapshotRefused, SnapshotCorrupt, CriuMissing and NotPermitted
    leave it untouched. Raises StartedAnew where the snapshot fails after that.
    """
    from zerostart_jupyter.snapshot import restored

    order = await asyncio.to_thread(restored.order, snapshot)
    with order.lease:  # nobody deletes the snapshot meanwhile
        provisioner = adopt(kernels.get_kernel(kernel))
        provisioner.restore_from = snapshot
        answering = await kernels.restart_kernel(kernel, now=True)
        if not await _answers(answering, provisioner):
            reason = await asyncio.to_thread(_reason, kernels.get_kernel(kernel).connection_file)
            await (await kernels.restart_kernel(kernel, now=True))
            raise StartedAnew(
                f"Snapshot {order.info.name!r} did not come back; the kernel was started anew.",
                remedy=reason or "The server's log says why.",
            )


def _reason(connection_file: str) -> str:
    """What the shepherd wrote of its failure; empty if it came to no words."""
    folder = status_directory(Path(connection_file))
    found = Found("", "shepherd", folder / "shepherd.json", (0, 0, 0)).read()
    failed = found.failed_restore() if found else None
    if failed is None:
        return ""
    return "It was cancelled." if failed["state"] == "cancelled" else str(failed["error"] or "")


async def _answers(answering: asyncio.Future[Any], provisioner: ZerostartProvisioner) -> bool:
    """Whether the process just launched answers, and not another one that took its place."""
    pid = provisioner.pid
    while not answering.done():
        await asyncio.wait([answering], timeout=POLL)
        if provisioner.pid != pid or await provisioner.poll() is not None:
            return False
    return answering.exception() is None
