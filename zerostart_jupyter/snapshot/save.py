"""`snapshot()`: it returns in the kernel that goes on, and in every restored one."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path
from types import FrameType
from typing import Any

from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.events import State as Progress
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.wording import seconds as in_seconds
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.snapshot import (
    cell_times,
    debugging,
    forked,
    installed,
    preflight,
    revival,
    secrets,
    tiers,
)
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.catalog import Catalog, fresh_id
from zerostart_jupyter.snapshot.dumper import Dumper, Order, gone
from zerostart_jupyter.snapshot.gpu.saving import Moving
from zerostart_jupyter.snapshot.launch import status_directory
from zerostart_jupyter.snapshot.process import FINAL, Save, State
from zerostart_jupyter.snapshot.quiesce import Sockets, places
from zerostart_jupyter.snapshot.wire import Channel, Message
from zerostart_jupyter.snapshot.wire import revive as as_error


@dataclass(frozen=True, slots=True)
class Saved:
    """What `snapshot()` returns. `restored` is True in a kernel that came out of the images.

    `bytes` of the images, `seconds` the save took, `frozen_seconds` of them without a kernel.
    `reason` is why it has this tier; `omitted` are (name, why) that the portable tier cannot save,
    `changed` (name, how) what will be different; `secrets` name what looks like one and is in it;
    `closed` are the other ends of connections that a restored kernel finds closed.
    """

    name: str
    id: str
    tier: str
    created: float
    bytes: int
    gpu_bytes: int
    seconds: float
    frozen_seconds: float
    restored: bool = False
    reason: str = ""
    omitted: tuple[tuple[str, str], ...] = ()
    changed: tuple[tuple[str, str], ...] = ()
    secrets: tuple[str, ...] = ()
    closed: tuple[str, ...] = ()

    def __repr__(self) -> str:
        if self.restored:
            lines = [f"Restored from snapshot {self.name!r}."]
            if self.closed:
                lines.append(f"  Connections that are closed now: {', '.join(self.closed)}.")
            return "\n".join(lines)
        if self.tier == tiers.PORTABLE:
            took = f"took {in_seconds(self.seconds)}"
        else:
            took = f"kernel frozen for {in_seconds(self.frozen_seconds)}"
        kind = f"{self.tier} ({self.reason})" if self.reason else self.tier
        lines = [f"Saved snapshot {self.name!r}: {size(self.bytes)}, {kind}, {took}."]
        lines += [f"  not saved: {name}: {why}" for name, why in self.omitted]
        lines += [f"  {name}: {how}" for name, how in self.changed]
        if self.secrets:
            lines.append(f"  It holds secrets, so keep it to yourself: {', '.join(self.secrets)}.")
        return "\n".join(lines)


def snapshot(
    name: str,
    *,
    tier: str = "auto",
    notebook: str | os.PathLike[str] | None = None,
    replace: bool = False,
    reseed: bool = True,
    kernel_seconds: float | None = None,
    park: bool = False,
    from_undo: int | None = None,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Saved:
    """Save this kernel under a name and go on; in a restored kernel the same call returns too.

    `reseed` gives restored kernels random states of their own; `kernel_seconds` is what it cost
    to come this far, by default the time its cells have run. With `park` the GPU's memory
    stays on the host afterwards, until it is woken. With `tier` "auto" it is the portable tier
    where the process cannot be dumped. `from_undo` saves, by its names, what the kernel was before
    the last so many cells. Raises SnapshotExists, SnapshotRefused,
    CriuMissing and NotPermitted before anything is frozen, CriuFailed, GpuFailed and SnapshotError
    after the kernel has been put back.
    """
    settings = settings or Settings.read()
    kernel = LiveKernel.current()
    Catalog(settings).check(name, replace=replace)
    if from_undo is not None:
        from zerostart_jupyter.snapshot import promoted

        where = str(notebook) if notebook else None
        body = promoted.promote(
            *(name, from_undo),
            notebook=where,
            replace=replace,
            reseed=reseed,
            settings=settings,
            hub=hub,
        )
        return _saved(body, restored=False)
    choice = tiers.best(tier, settings)
    cost = cell_times.rerun_seconds() if kernel_seconds is None else kernel_seconds
    if choice.criu is None:
        from zerostart_jupyter.snapshot.portable import saving

        where = str(notebook) if notebook else None
        asked = saving.Request(
            *(name, choice.reason, where, cost, replace, reseed),
            kernelspec=kernel.kernelspec(),
            encrypted=kernel.encrypted,
        )
        return _saved(saving.save(asked, kernel.kernel.shell, settings, hub), restored=False)
    criu = choice.criu
    debugging.demand_none(kernel)
    with operation("snapshot", name, unit="steps", hub=hub) as work:
        work.update(State.PREFLIGHT)  # which compares weights on a GPU with their files
        gpu = Moving.plan(settings, park=park)
        order = Order(
            id=fresh_id(),
            name=name,
            operation=work.id,
            criu=list(criu.command),
            criu_version=criu.version,
            cache=str(settings.cache),
            timeout=settings.criu_timeout,
            replace=replace,
            notebook=str(notebook) if notebook else None,
            parent=revival.origin(),
            kernel_seconds=cost,
            reason=choice.reason,
            kernelspec=kernel.kernelspec(),
            encrypted=kernel.encrypted,
            environment=installed.digest(),
            map_bytes=settings.map_mb << 20,
            status=str(status_directory(Path(kernel.connection_file))),
        )
        return _run(kernel, order, work, gpu, reseed=reseed)


def _run(kernel: LiveKernel, order: Order, work: Operation, gpu: Moving, *, reseed: bool) -> Saved:
    sockets, channel, dumper = Sockets(kernel), Channel.open(), Dumper()
    inherited = revival.outputs(kernel)
    began, muted = time.monotonic(), False
    with Save(_telling(work)) as save, _interrupts(dumper), kernel.history_still():
        try:
            save.enter(State.PREFLIGHT, dumper.stop)
            own = places(kernel.connection()).values()
            points = forked.processes()
            targets = _targets(inherited)
            preflight.examine(os.getpid(), targets, own, cuda=gpu.cuda, leaving=points)
            dumper.start(order, channel.ends(), sorted(inherited))
            work.on_cancel(dumper.cancel)
            work.check()
            forked.forget()  # they would be dumped with us, each at full size
            frozen = time.monotonic()
            save.enter(State.QUIESCING, sockets.take)
            muted = kernel.mute_parent_poller()
            sockets.let_go()
            gpu.take(save)
            save.enter(State.DUMPING)
            here = Process.current()
            taken = kernel.connection() | {"pipe_port": kernel.pipe_port()}
            dumper.go(taken, gpu.as_json())
            message = _wait(channel, dumper, here)
            if message["kind"] == "live":
                save.enter(State.RESTORED)
                save.forget()
                work.forget()
                revival.come_alive(
                    kernel, sockets, channel, message, inherited, first=gpu.arrive, reseed=reseed
                )
                return _saved(message["saved"], restored=True)
            _raise_if_failed(message)
            save.enter(State.RESUMING)
            gpu.resume()
            sockets.take()
            stood = time.monotonic() - frozen
            save.enter(State.INDEXING)
            channel.say({"kind": "resumed", "frozen_seconds": stood, "began": began})
            message = _wait(channel, dumper, here)
            _raise_if_failed(message)
            save.forget()
            save.enter(State.READY)
            return _saved(message["saved"], restored=False)
        finally:
            if save.state is not State.RESTORED:
                channel.close()
                if muted:
                    kernel.heed_parent()


def _wait(channel: Channel, dumper: Dumper, here: Process) -> Message:
    """The next message. While we are frozen another process wakes up here: in the images."""
    silent = 0

    def check() -> None:
        nonlocal silent
        if Process.current() != here:
            return  # restored: only the shepherd has something to say
        dumper.obey()
        silent = 0 if dumper.alive() else silent + 1
        if silent > 1:  # what it said last was read in between
            raise gone()

    return channel.reader.wait(check=check)


def _raise_if_failed(message: Message) -> None:
    if message["kind"] == "failed":
        raise as_error(message)


def _saved(body: dict[str, Any], *, restored: bool) -> Saved:
    known = {each.name for each in fields(Saved)} - {"restored"}
    found = {name: body[name] for name in known if name in body}
    found["closed"] = tuple(body.get("closed", ()))
    if not restored:
        found["secrets"] = secrets.once(process=body["tier"] == tiers.PROCESS)
    return Saved(**found, restored=restored)


def _targets(inherited: dict[int, str]) -> list[str]:
    return [os.readlink(f"/proc/self/fd/{number}") for number in inherited]


def _telling(work: Operation) -> Any:
    last: list[State] = []

    def tell(state: State) -> None:
        if last:
            work.update(last[-1], state=Progress.FAILED if state is State.FAILED else Progress.DONE)
        if state not in FINAL:
            work.update(state)
        last.append(state)

    return tell


@contextlib.contextmanager
def _interrupts(dumper: Dumper) -> Iterator[None]:
    """Turn an interrupt into a cancel: a kernel must not be left without its sockets."""

    def note(number: int, frame: FrameType | None) -> None:
        dumper.cancel()

    before = signal.signal(signal.SIGINT, note)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
