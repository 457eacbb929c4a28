"""A restored kernel as its shepherd sees it: the namespace, the way to talk to it, its signals."""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease
from zerostart_jupyter.snapshot import checks, procfs, tiers, trust, wire
from zerostart_jupyter.snapshot.apart import Apart, fork
from zerostart_jupyter.snapshot.catalog import ROOM, Catalog, SnapshotInfo


@dataclass
class Restored:
    """`outer` is our child that waits for the namespace; `running` once the kernel is there."""

    saved: dict[str, Any]
    outer: int
    reader: wire.Reader
    lease: Lease | None = None
    revive: dict[str, Any] | None = None
    gpu: Mapping[str, Any] = field(default_factory=dict)
    criu: Sequence[str] = ()
    _process: Process | None = None
    _pidfd: int | None = None
    _group: int | None = None

    @classmethod
    def adopt(cls, info: SnapshotInfo, taken: dict[str, Any]) -> Restored:
        """The namespace that the kernel we were before an exec has made."""
        manifest = info.manifest()
        about = summary(info, manifest.sockets)
        restored = cls(about, taken["outer"], wire.Reader(taken["control"]))
        restored.revive = taken["revive"]
        restored.gpu = manifest.gpu
        restored.found(taken["pid"])
        return restored

    @property
    def running(self) -> bool:
        """Whether there is a kernel to send signals to."""
        return self._pidfd is not None

    def tell(self, message: wire.Message) -> None:
        """Send something to the kernel; one that is gone hears nothing."""
        with contextlib.suppress(OSError):
            wire.send(self.reader.descriptor, message)

    def found(self, pid: int) -> None:
        """Learn which of our processes has this id inside; the images are no longer needed."""
        self._let_go()
        for first in procfs.children(self.outer):
            for each in procfs.children(first):
                inside = procfs.status(each).get("NSpid", "").split()
                if inside and int(inside[-1]) == pid:
                    self._pidfd = os.pidfd_open(each)
                    self._process = Process.of(each)
                    self._group = each if os.getpgid(each) == each else None

    def bring_gpu_back(self, settings: Settings | None = None) -> None:
        """Move its GPU memory from its images onto the GPUs; raises GpuFailed."""
        if self.gpu and self._process is not None:
            from zerostart_jupyter.snapshot.gpu import kernel as gpu

            gpu.bring_back(self.gpu, self._process, settings or Settings.read())

    def signal(self, number: int) -> None:
        """Pass a signal on, to the kernel's process group as Jupyter would."""
        if self._pidfd is None:
            return
        with contextlib.suppress(ProcessLookupError):
            signal.pidfd_send_signal(self._pidfd, 0)  # its id is still its own
            if self._group is not None:
                os.killpg(self._group, number)
            else:
                signal.pidfd_send_signal(self._pidfd, number)

    def give_up(self) -> None:
        """End what is not yet a kernel; its reader comes to an end. For any thread."""
        if not self.running:
            self._end()

    def kill(self) -> None:
        """End everything in the namespace and wait until it is gone."""
        self._let_go()
        self._end()
        with contextlib.suppress(ChildProcessError):
            os.waitpid(self.outer, 0)
        os.close(self.reader.descriptor)
        if self._pidfd is not None:
            os.close(self._pidfd)
            self._pidfd = None

    def _end(self) -> None:
        with contextlib.suppress(ProcessLookupError):
            # Its end ends all others first; then the one outside has nothing to wait for.
            for each in procfs.children(self.outer) or [self.outer]:
                os.kill(each, signal.SIGKILL)

    def _let_go(self) -> None:
        if self.lease is not None:
            self.lease.close()
            self.lease = None


@dataclass(frozen=True, slots=True)
class Order:
    """What a namespace is told to restore; the lease keeps the images until they are read.

    `closed` are the ends of connections that a restored kernel finds closed.
    """

    info: SnapshotInfo
    message: wire.Message
    lease: Lease
    gpu: Mapping[str, Any] = field(default_factory=dict)
    closed: Sequence[str] = ()


def order(snapshot: str, settings: Settings | None = None) -> Order:
    """Check everything that can be checked before a restore.

    Raises SnapshotNotFound, SnapshotRefused, SnapshotCorrupt, CriuMissing or NotPermitted.
    """
    settings = settings or Settings.read()
    catalog = Catalog(settings)
    info = catalog.get(snapshot)
    trust.require(catalog, info)
    if info.tier == tiers.PORTABLE:
        from zerostart_jupyter.snapshot.portable import restoring

        restoring.check(info)
        return Order(info, {}, catalog.store.lease(ROOM, info.id))
    criu = tiers.for_restore(settings)
    lease = catalog.store.lease(ROOM, info.id)
    try:
        manifest = info.manifest()
        checks.before_restore(info, manifest, criu)
    except BaseException:
        lease.close()
        raise
    message = {
        "kind": "order",
        "path": str(info.path),
        "digest": info.digest,
        "criu": list(criu.command),
        "timeout": settings.criu_timeout,
    }
    return Order(info, message, lease, manifest.gpu, manifest.sockets)


def prepare(
    snapshot: str, settings: Settings | None = None, *, apart: Apart | None = None
) -> Restored:
    """Check, and start restoring in a namespace of its own; raises as `order` does."""
    apart = apart or fork()
    try:
        asked = order(snapshot, settings)
    except BaseException:
        apart.end()
        raise
    about = summary(asked.info, asked.closed)
    restored = Restored(about, apart.outer, apart.reader, asked.lease)
    restored.gpu = asked.gpu
    restored.criu = asked.message["criu"]
    restored.tell(asked.message)
    return restored


def summary(info: SnapshotInfo, closed: Sequence[str]) -> dict[str, Any]:
    """What a restored kernel is told: the snapshot it came from, which connections are closed."""
    known = ("name", "id", "tier", "created", "bytes", "gpu_bytes", "seconds", "frozen_seconds")
    return {name: getattr(info, name) for name in known} | {"closed": list(closed)}
