"""Which lock satisfies a request: an earlier answer, or uv's, beside what a kernel has imported."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING

from zerostart_jupyter.core.errors import AlreadyImported, ResolveError
from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import answers, borrowed, live
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.requirements import Request

if TYPE_CHECKING:
    from zerostart_jupyter.install.build import Builder

_ROUNDS = 8  # answers, each of which may bring a conflict that the one before had not


def find_lock(
    request: Request,
    indexes: Indexes,
    store: Store,
    settings: Settings,
    work: Operation,
    *,
    live_kernel: bool,
    preferred: Mapping[str, str] | None = None,
    meanwhile: Callable[[], None] = lambda: None,
) -> Lock:
    """The lock for a request, from an earlier answer or from uv, which takes the `preferred`
    version of a name wherever that will do. `meanwhile` is called while uv is first at work.

    With `live_kernel`, what this process has imported is kept: where the answer has another
    version of it, uv is asked again under that constraint, and so on for what the next answer
    brings. Raises AlreadyImported if it cannot.
    """
    ask = partial(_answer, request, indexes, store, settings, work, preferred or {})
    lock = ask((), meanwhile)
    kept: dict[str, live.Conflict] = {}
    reason: ResolveError | None = None
    for _ in range(_ROUNDS if live_kernel else 0):
        fresh = [each for each in live.conflicts(lock) if each.name not in kept]
        fresh = [each for each in fresh if not borrowed.let_go(each.module)]
        if not fresh:
            return lock
        kept.update((each.name, each) for each in fresh)
        try:
            lock = ask(tuple(each.constraint for each in kept.values()), lambda: None)
        except ResolveError as error:
            reason = error
            break
    if not kept:
        return lock
    raise AlreadyImported(
        f"This kernel has imported {live.named(list(kept.values()))}.",
        remedy=f"Restart the kernel, and install {request.title} before these imports.",
    ) from reason


def _answer(
    request: Request,
    indexes: Indexes,
    store: Store,
    settings: Settings,
    work: Operation,
    preferred: Mapping[str, str],
    constraints: tuple[str, ...],
    meanwhile: Callable[[], None],
) -> Lock:
    kept = [f"prefer {name} {version}" for name, version in sorted(preferred.items())]
    key = answers.request_key(request, indexes, (*constraints, *kept))
    hours = float("inf") if indexes.offline else settings.lock_hours
    lock = answers.cached(store, key, hours)
    if lock is None:
        resolving = borrowed.ours("resolve")

        @cache
        def builder() -> Builder:
            made: Builder = borrowed.ours("build").Builder(store, settings, indexes, work)
            return made

        def while_it_runs() -> None:
            # What is needed next: it would otherwise be imported after uv's answer.
            borrowed.ours("background")
            borrowed.bring("packaging.pylock")
            meanwhile()  # last: how fast an index answers cannot be told beside our imports

        lock = resolving.resolve(
            request, indexes, builder, work, constraints, preferred, while_it_runs
        )
        answers.keep(store, key, lock)
    if settings.system_cuda:
        from zerostart_jupyter.install import system_cuda

        lock = system_cuda.left(lock, settings)
    return lock
