"""A running kernel put back into the state of a snapshot, as a restart with another command."""

from __future__ import annotations

import asyncio
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.jupyter.provisioner import ZerostartProvisioner, adopt

POLL = 0.1  # seconds between two looks whether what is being restored still lives


async def in_place(kernels: Any, kernel: str, snapshot: str) -> None:
    """Replace the process behind a kernel id and wait until the new one answers.

    `kernels` is the server's kernel manager, `snapshot` an id. Whatever can be checked is checked
    while the old process lives: SnapshotRefused, SnapshotCorrupt, CriuMissing and NotPermitted
    leave it untouched. SnapshotError after that: the server starts the kernel anew, empty.
    """
    from zerostart_jupyter.snapshot import restored

    order = await asyncio.to_thread(restored.order, snapshot)
    with order.lease:  # nobody deletes the snapshot meanwhile
        provisioner = adopt(kernels.get_kernel(kernel))
        provisioner.restore_from = snapshot
        answering = await kernels.restart_kernel(kernel, now=True)
        await _answer(answering, provisioner, order.info.name)


async def _answer(
    answering: asyncio.Future[Any], provisioner: ZerostartProvisioner, name: str
) -> None:
    """Wait for the kernel's first answer, but not for that of another process in its place."""
    pid = provisioner.pid
    while not answering.done():
        await asyncio.wait([answering], timeout=POLL)
        if provisioner.pid != pid or await provisioner.poll() is not None:
            raise _failed(name)
    if answering.exception() is not None:
        raise _failed(name) from answering.exception()


def _failed(name: str) -> SnapshotError:
    return SnapshotError(
        f"Snapshot {name!r} did not come back, and the kernel starts anew without it.",
        remedy="The server's log says why.",
    )
