"""`install()` and its handle: warm if it can be, else in the background behind the gate."""

from __future__ import annotations

import contextlib
import math
import sys
import threading
import time
from collections.abc import Callable, Mapping
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import (
    AlreadyImported,
    DigestMismatch,
    ResolveError,
    ZerostartError,
)
from zerostart_jupyter.core.events import Hub, Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease, Store
from zerostart_jupyter.install import activation, answers, children, live
from zerostart_jupyter.install.gate import NOTICE, gate
from zerostart_jupyter.install.indexes import Indexes, read_indexes
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.requirements import Request, gather

if TYPE_CHECKING:
    from zerostart_jupyter.install.background import Job
    from zerostart_jupyter.install.build import Builder

ROOM = activation.ROOM
_leases: dict[str, Lease] = {}  # environments of this process; freed when it ends

# Third-party modules of our own that a user may want in another version.
_OURS = ("packaging", "installer", "isal")


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
        own = _import_ours("own") if into_kernel else None
        places = own.places() if own else None
        preferred = own.versions(places) if own else {}
        lock = find_lock(
            request, indexes, store, settings, work, live_kernel=activate, preferred=preferred
        )
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
            start = partial(job, store, settings, indexes, work)
            told = activate and own is None
            _start(found, lock, start, store, work, stack.pop_all(), started, told=told)
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


def find_lock(
    request: Request,
    indexes: Indexes,
    store: Store,
    settings: Settings,
    work: Operation,
    *,
    live_kernel: bool,
    preferred: Mapping[str, str] | None = None,
) -> Lock:
    """The lock for a request, from an earlier answer or from uv, which takes the `preferred`
    version of a name wherever that will do.

    With `live_kernel`, what this process has imported is kept: where the answer has another
    version of it, uv is asked again under that constraint. Raises AlreadyImported if it cannot.
    """
    ask = partial(_answer, request, indexes, store, settings, work, preferred or {})
    lock = ask(())
    contradictions = live.conflicts(lock) if live_kernel else []
    contradictions = [each for each in contradictions if not _let_go(each)]
    if not contradictions:
        return lock
    constraints = tuple(each.constraint for each in contradictions)
    try:
        return ask(constraints)
    except ResolveError as error:
        raise AlreadyImported(
            f"This kernel has imported {live.named(contradictions)}.",
            remedy=f"Restart the kernel, and install {request.title} before these imports.",
        ) from error


def _answer(
    request: Request,
    indexes: Indexes,
    store: Store,
    settings: Settings,
    work: Operation,
    preferred: Mapping[str, str],
    constraints: tuple[str, ...],
) -> Lock:
    kept = [f"prefer {name} {version}" for name, version in sorted(preferred.items())]
    key = answers.request_key(request, indexes, (*constraints, *kept))
    hours = float("inf") if indexes.offline else settings.lock_hours
    lock = answers.cached(store, key, hours)
    if lock is None:
        resolving = _import_ours("resolve")

        @cache
        def builder() -> Builder:
            made: Builder = _import_ours("build").Builder(store, settings, indexes, work)
            return made

        def meanwhile() -> None:
            # What is needed next: it would otherwise be imported after uv's answer.
            _import_ours("background")
            _imported("packaging.pylock")

        lock = resolving.resolve(request, indexes, builder, work, constraints, preferred, meanwhile)
        answers.keep(store, key, lock)
    if settings.system_cuda:
        from zerostart_jupyter.install import system_cuda

        lock = system_cuda.left(lock, settings)
    return lock


def _environment(request: Request, lock: Lock, store: Store) -> Installation:
    key = lock.environment_key()
    _hold(store, key)
    found = Installation(request, lock, store.path(ROOM, key))
    if store.get(ROOM, key) is not None:
        found._done.set()
    return found


def _verify(
    found: Installation, lock: Lock, store: Store, settings: Settings, hub: Hub | None, own: bool
) -> None:
    from zerostart_jupyter.install import verify

    names = [name for name, _ in found.distributions]
    with operation("verify", found.title, hub=hub) as work:
        rows = verify.recorded(found.site_packages, names)
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
        raise DigestMismatch(
            f"{bad[0].path} is not what {bad[0].name} recorded{more}.",
            remedy=f"{again}; if that changes nothing, tell the project: its wheel is at fault.",
        )


def _into_kernel(request: Request, lock: Lock, places: Any) -> Installation:
    found = Installation(request, lock, Path(sys.prefix))
    found.site_packages, found.bin = places.site, places.bin
    return found


def _job(*needed: Any) -> Job:
    job: Job = _import_ours("background").Job(*needed)
    return job


def _start(
    found: Installation,
    lock: Lock,
    make: Callable[[], Job],
    store: Store,
    work: Operation,
    stack: contextlib.ExitStack,
    started: float,
    *,
    told: bool,
) -> None:
    background = _import_ours("background")
    found.warm = False
    try:
        job = make()
        found._cancel, found._demand = work.cancel, job.pipeline.demand
        gate.open(job.pending)
        job.guess(live.shadowed(lock))
        if told:
            lock_file = store.root / "locks" / f"build-{found.environment.name}"
            job.pending.tell = partial(children.tell, job.pending, lock_file)
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


_brought: set[str] = set()


def _import_ours(module: str) -> Any:
    """A module of ours that needs others' packages; what comes in with it is noted."""
    return _imported(f"zerostart_jupyter.install.{module}")


def _imported(name: str) -> Any:
    import importlib

    before = set(sys.modules)
    found = importlib.import_module(name)
    fresh = set(sys.modules) - before
    _brought.update(each for each in fresh if each.partition(".")[0] in _OURS)
    return found


def _let_go(conflict: live.Conflict) -> bool:
    """Forget a conflicting module if only we have imported it: we have what we need of it."""
    top = conflict.module.partition(".")[0]
    loaded = {name for name in sys.modules if name.partition(".")[0] == top}
    if not loaded or not loaded <= _brought:
        return False
    _import_ours("background")  # the last that needs them
    for name in {name for name in sys.modules if name.partition(".")[0] == top}:
        del sys.modules[name]
    return True
