"""The REST API below `zerostart/api/`; schema/openapi.yaml describes it.

Nothing from a request is joined into a path: ids and names are looked up among what is there.
Engine calls block, so they run in threads.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
import uuid
from typing import Any

from zerostart_jupyter.core.errors import SnapshotNotFound
from zerostart_jupyter.core.events import State
from zerostart_jupyter.core.status import request_cancel
from zerostart_jupyter.jupyter.server import gpu
from zerostart_jupyter.jupyter.server.description import NotFound, openapi, pattern
from zerostart_jupyter.jupyter.server.endpoint import Busy, Endpoint, endpoint
from zerostart_jupyter.jupyter.server.restoring import StartedAnew, in_place


class Activity(Endpoint):
    """What all kernels do."""

    @endpoint
    async def get(self) -> Any:
        """Every status file's operations; events go on from here."""
        return {"sources": [source.as_json() for source in self.app.watcher.sources]}


class Cancel(Endpoint):
    """Stops an operation."""

    @endpoint
    async def post(self, kernel: str, operation: str) -> None:
        """Ask the writer to cancel; it notices at its next check."""
        for source in self.app.watcher.sources:
            if source.kernel == kernel:
                for each in source.operations:
                    if each["id"] == operation and not State(each["state"]).final:
                        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
                            await asyncio.to_thread(request_cancel, source.path.parent, operation)
                            return
        raise NotFound(
            f"Kernel {kernel} has no operation {operation} under way.",
            remedy="It may have ended; refresh the panel.",
        )


class Snapshots(Endpoint):
    """All snapshots of this user."""

    @endpoint
    async def get(self) -> Any:
        """Oldest first."""
        return {"snapshots": await asyncio.to_thread(_snapshots)}


class Snapshot(Endpoint):
    """One snapshot."""

    @endpoint
    async def patch(self, name: str) -> Any:
        """Give it another name."""
        new = self.body["name"]
        await asyncio.to_thread(_existing, name)
        await asyncio.to_thread(_engine().rename, name, new)
        return await asyncio.to_thread(_existing, new)

    @endpoint
    async def delete(self, name: str) -> None:
        """Remove it and its kernelspec."""
        await asyncio.to_thread(_existing, name)
        await asyncio.to_thread(_engine().delete, name)


class Clone(Endpoint):
    """New kernels out of a snapshot."""

    @endpoint
    async def post(self, name: str) -> Any:
        """Make sure that its kernelspec is there; starting it is Jupyter's ordinary way."""
        await asyncio.to_thread(_existing, name)
        spec = await asyncio.to_thread(_engine().publish, name)
        return {"kernelspec": spec.name}


class Restore(Endpoint):
    """A kernel put back into the state of a snapshot: same id, session and notebook."""

    @endpoint
    async def post(self, kernel: str) -> Any:
        """Replace the kernel's process by the snapshot's, and wait until that answers."""
        name = self.body["snapshot"]
        kernels: Any = self.kernel_manager
        if kernel not in kernels:
            raise NotFound(
                f"This server has no kernel {kernel}.", remedy="Open a notebook and try again."
            )
        snapshot = await asyncio.to_thread(_existing, name)
        if kernel in self.app.restoring:
            raise Busy(f"Kernel {kernel} is being restored.", remedy="Wait until that is done.")
        self.app.restoring.add(kernel)
        started = time.monotonic()
        restored = {"id": uuid.uuid4().hex, "kernel": kernel, "snapshot": name}
        try:
            await in_place(kernels, kernel, snapshot["id"])
        except StartedAnew:
            self.app.tell_restored({**restored, "snapshot": ""})
            raise
        finally:
            self.app.restoring.discard(kernel)
        self.app.tell_restored(restored)
        return {**restored, "seconds": time.monotonic() - started}


class Doctor(Endpoint):
    """What works here."""

    @endpoint
    async def get(self) -> Any:
        """Every capability with its reason and its next step."""
        from zerostart_jupyter.doctor import doctor

        found = await asyncio.to_thread(doctor)
        return {"capabilities": [capability.as_json() for capability in found]}


class Gpu(Endpoint):
    """GPU memory by kernel."""

    @endpoint
    async def get(self) -> Any:
        """Devices, and the bytes each kernel holds; or why there is nothing to show."""
        owners = {
            source.process.pid: source.kernel
            for source in self.app.watcher.sources
            if source.process is not None and source.process.near
        }
        for kernel in self.kernel_manager.list_kernel_ids():
            pid = getattr(self.kernel_manager.get_kernel(kernel).provisioner, "pid", None)
            if pid is not None:
                owners[pid] = kernel
        parked = [
            {"kernel": source.kernel, "bytes": source.parked}
            for source in self.app.watcher.sources
            if source.parked is not None and source.process is not None and source.process.alive()
        ]
        return {**await asyncio.to_thread(gpu.memory, owners), "parked": parked}


class Description(Endpoint):
    """What there is."""

    @endpoint
    async def get(self) -> Any:
        """openapi.yaml as JSON, with the address of this server."""
        return {**openapi(), "servers": [{"url": self.base_url.rstrip("/") or "/"}]}


def _engine() -> Any:
    from zerostart_jupyter import snapshot

    return snapshot


def _snapshots() -> list[dict[str, Any]]:
    return [snapshot.as_json() for snapshot in _engine().snapshots()]


def _existing(name: str) -> dict[str, Any]:
    """The snapshot of this name; nothing else of a request's text ever reaches the engine."""
    for snapshot in _snapshots():
        if snapshot["name"] == name:
            return snapshot
    raise SnapshotNotFound(
        f"There is no snapshot {name!r}.", remedy="Refresh the list to see those that are there."
    )


_HANDLERS = {
    "activity": Activity,
    "doctor": Doctor,
    "gpu": Gpu,
    "kernels/{kernel}/restore": Restore,
    "kernels/{kernel}/operations/{operation}/cancel": Cancel,
    "openapi.json": Description,
    "snapshots": Snapshots,
    "snapshots/{name}": Snapshot,
    "snapshots/{name}/clone": Clone,
}

ROUTES = [
    (pattern(path), handler, {"described": path})
    for path, handler in ((f"/zerostart/api/{end}", each) for end, each in _HANDLERS.items())
]
