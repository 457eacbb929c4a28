"""`install()` and its handle: warm if it can be, else in the background behind the gate."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import DigestMismatch, ZerostartError
from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease, Store
from zerostart_jupyter.install import activation, borrowed, children, live
from zerostart_jupyter.install.decision import find_lock
from zerostart_jupyter.install.gate import NOTICE, gate
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.requirements import Request, gather

if TYPE_CHECKING:
    from zerostart_jupyter.install.background import Job
    from zerostart_jupyter.install.headstart import HeadStart

ROOM = activation.ROOM
_leases: dict[str, Lease] = {}  # environments of this process; freed when it ends


class Installation:
    """An environment that is there or on its way. `seconds` counts until the call returned, or
    for a finished one until it was whole; sizes are in bytes."""

    def __init__(self, request: Request, lock: Lock, root: Path) -> None:
        self.title = request.title
        self.environment = root
        self.site_packages = activation.site_of(root)
        self.bin = root / "bin"
        self.distributions = [(each.name, each.version) for each in lock.packages]
        self.wheels = len(lock.packages)
        self.warm = True
        self.bytes_downloaded = 0
        self.seconds = 0.0
        self._done = threading.Event()
        self._error: ZerostartError | None = None
        self._cancel: Callable[[], None] = lambda: None
        self._demand: Callable[[str], None] = lambda _: None

    @property
    def done(self) -> bool:
        """True once it is whole, or has failed."""
        return self._done.is_set()

    @property
    def error(self) -> ZerostartError | None:
        """What ended it, if it failed."""
        return self._error

    def wait(self, timeout: float | None = None) -> Installation:
        """Itself, once the environment is whole; raises what went wrong, or TimeoutError.

        An interrupt ends the waiting and not the install.
        """
        deadline = math.inf if timeout is None else time.monotonic() + timeout
        while not self._done.wait(min(NOTICE, max(0.0, deadline - time.monotonic()))):
            if time.monotonic() < deadline:
                continue
            raise TimeoutError(f"{self.title} is not installed after {timeout} s.")
        if self._error is not None:
            raise self._error
        return self

    def cancel(self) -> None:
        """Stop; what arrived is kept for the next time. A finished one stays as it is."""
        self._cancel()

    def demand(self, distribution: str) -> None:
        """Bring this distribution, and what it needs, before everything else."""
        self._demand(distribution)

    def activate(self) -> None:
        """Put it on `sys.path`, PATH and PYTHONPATH; imports wait for what is on its way."""
        self.site_packages.mkdir(parents=True, exist_ok=True)
        activation.activate(self.environment)

    def as_json(self) -> dict[str, Any]:
        """What `zerostart install --json` prints."""
        return {
            "environment": str(self.environment),
            "site_packages": str(self.site_packages),
            "bin": str(self.bin),
            "warm": self.warm,
            "seconds": round(self.seconds, 4),
            "wheels": self.wheels,
            "bytes_downloaded": self.bytes_downloaded,
            "distributions": [
                {"name": name, "version": version} for name, version in self.distributions
            ],
        }

    def __repr__(self) -> str:
        if self._error is not None:
            return f"<{self.title}: failed: {self._error}>"
        from zerostart_jupyter.core import wording  # which `zerostart run` does without

        wheels = wording.counted(self.wheels, "wheel")
        if not self.done:
            way = "its way" if self.wheels == 1 else "their way"
            return f"<{self.title}: {wheels} on {way}; imports wait for their own>"
        how = "was there" if self.warm else wording.size(self.bytes_downloaded)
        return f"<{self.title}: {wheels}, {how}, {wording.seconds(self.seconds)}>"


def install(
    *specs: str,
    request: Request | None = None,
    wait: bool = True,
    activate: bool = True,
    into_kernel: bool = False,
    verify: bool = False,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Installation:
    """The environment that has what was asked for, made if it is not there.

    With `wait=False` it returns once it is known what will be installed; imports then wait for
    their own distribution and what that needs. With `into_kernel` it is this interpreter's own
    environment that gets what it lacks, as pip would do it; imports then wait for all of it.
    With `verify` it waits, and compares every file with the hash in its RECORD.
    Raises an InstallError, a StoreError, or Cancelled.
    """
    started = time.perf_counter()
    settings = settings or Settings.read()
    request = request or gather(specs)
    store = Store(settings.cache)
    indexes = read_indexes(request.index)
    with contextlib.ExitStack() as stack:
        work = stack.enter_context(operation("install", request.title, hub=hub))
        own = borrowed.ours("own") if into_kernel else None
        places = own.places() if own else None
        preferred = own.versions(places) if own else {}
        ahead: list[HeadStart] = []

        def meanwhile() -> None:
            if settings.no_head_start:
                return
            begun = _head_start(request, indexes, store, settings, work)
            stack.callback(begun.close)
            ahead.append(begun)
            begun.begin(preferred)

        try:
            lock = find_lock(
                request,
                indexes,
                store,
                settings,
                work,
                live_kernel=activate,
                preferred=preferred,
                meanwhile=meanwhile,
            )
        finally:
            for begun in ahead:
                begun.end()
        job: Callable[..., Job]
        if own:
            found, lock = _into_kernel(request, lock, places), own.missing(lock, places)
            if not lock.packages:
                found._done.set()
            job = partial(own.OwnJob, request, lock, places)
        else:
            found = _environment(request, lock, store)
            job = partial(_job, request, lock, found.environment)
        if not found.done:
            pipeline = ahead[0].pipeline if ahead else None
            start = partial(job, store, settings, indexes, work, pipeline=pipeline)
            _start(found, lock, start, store, work, stack.pop_all(), started)
        elif ahead:  # another process has made it meanwhile, perhaps of what this one fetched
            found.bytes_downloaded = ahead[0].pipeline.downloaded
        if activate and own is None:
            found.activate()
        found.seconds = time.perf_counter() - started
    if wait or verify:
        try:
            found.wait()
        except KeyboardInterrupt:
            found.cancel()
            raise
    if verify:
        _verify(found, lock, store, settings, hub, own is not None)
    return found


def _environment(request: Request, lock: Lock, store: Store) -> Installation:
    key = lock.environment_key()
    _hold(store, key)
    found = Installation(request, lock, store.path(ROOM, key))
    if store.get(ROOM, key) is not None:
        activation.use(found.environment)
        found._done.set()
    return found


def _verify(
    found: Installation, lock: Lock, store: Store, settings: Settings, hub: Hub | None, own: bool
) -> None:
    from zerostart_jupyter.install import verify

    names = [name for name, _ in found.distributions]
    with operation("verify", found.title, hub=hub) as work:
        rows = verify.recorded(found.site_packages, names, compiled=own)
        bad = verify.differing(rows, work, settings.extract_threads)
        if not bad:
            return
        if not own:  # what is made again is made of wheels that are fetched again
            _leases.pop(str(found.environment)).close()
            store.remove(ROOM, found.environment.name)
            for sha256 in {
                each.sha256 for each in lock.packages for row in bad if row.name == each.name
            }:
                store.remove("wheels", sha256)
        more = f", and {len(bad) - 1} more files differ" if len(bad) > 1 else ""
        again = f"pip install --force-reinstall {bad[0].name}" if own else "Run it again"
        what = "is not what" if bad[0].digest else "has no hash in what"
        raise DigestMismatch(
            f"{bad[0].path} {what} {bad[0].name} recorded{more}.",
            remedy=f"{again}; if that changes nothing, tell the project: its wheel is at fault.",
        )


def _into_kernel(request: Request, lock: Lock, places: Any) -> Installation:
    found = Installation(request, lock, Path(sys.prefix))
    found.site_packages, found.bin = places.site, places.bin
    return found


def _head_start(*needed: Any) -> HeadStart:
    begun: HeadStart = borrowed.ours("headstart").HeadStart(*needed)
    return begun


def _job(*needed: Any, **more: Any) -> Job:
    job: Job = borrowed.ours("background").Job(*needed, **more)
    return job


def _start(
    found: Installation,
    lock: Lock,
    make: Callable[[], Job],
    store: Store,
    work: Operation,
    stack: contextlib.ExitStack,
    started: float,
) -> None:
    background = borrowed.ours("background")
    found.warm = False
    try:
        job = make()
        found._cancel, found._demand = work.cancel, job.pipeline.demand
        lock_file = store.root / "locks" / job.lock_name
        job.pending.tell = partial(children.tell, job.pending, lock_file, job.told_in)
        job.pending.tell()  # before anything waits: a fork goes by what was told
        gate.open(job.pending)
        job.guess(live.shadowed(lock))
        job.pending.tell()
    except BaseException:
        stack.__exit__(*sys.exc_info())
        raise

    def carry_out() -> None:
        try:
            with stack:
                job.run()
        except BaseException as error:
            found._error = background.as_error(error, store)
        finally:
            found.bytes_downloaded = job.pipeline.downloaded
            found.seconds = time.perf_counter() - started
            found._done.set()

    thread = threading.Thread(target=carry_out, name="zerostart-install", daemon=True)
    gate.workers.add(thread)
    thread.start()


def _hold(store: Store, key: str) -> None:
    """Keep an environment from being collected while this process lives."""
    name = str(store.path(ROOM, key))
    if name not in _leases:
        _leases[name] = store.lease(ROOM, key)
