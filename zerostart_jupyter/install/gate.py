"""Imports and metadata look-ups that wait for their own distribution, and for nothing else.

Two finders of one process-wide gate sit on `sys.meta_path` from the first install on and are
never taken away: popping a finder while another thread iterates makes that thread skip one. The
first in line holds back names that a coming distribution has claimed; the last in line holds
back names that nobody else knows while some distribution's names are still unknown. With nothing
on its way either costs one look-up in an empty dictionary.
"""

from __future__ import annotations

import _imp
import contextlib
import importlib
import os
import re
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from importlib.machinery import ModuleSpec
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.core.liveness import Process
from zerostart_jupyter.install import inherited, path_files
from zerostart_jupyter.install.activation import landed, site_of
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.waiting import Waiting

if TYPE_CHECKING:
    import importlib.metadata

POLL = 0.05  # seconds between two looks at a marker that another process will make
# A signal that arrives just before a lock blocks is noticed when the wait ends: so it ends soon.
NOTICE = 0.25  # seconds


class Pending:
    """The distributions of one environment that are on their way.

    `demand(name)` asks for one to come first; `closure(name)` is what has to be there for it.
    """

    def __init__(
        self,
        root: Path,
        names: Iterable[str],
        demand: Callable[[str], None],
        closure: Callable[[str], Iterable[str]],
    ) -> None:
        self.root = root
        self._demand = demand
        self._closure = closure
        self._changed = threading.Condition()
        self.missing = set(names)
        self.unnamed = set(names)
        self._files: dict[str, dict[str, str]] = {}
        self._roots: dict[str, dict[str, frozenset[str]]] = {}  # root -> distribution -> below
        self._error: ZerostartError | None = None
        self.early: Callable[[str, dict[str, str]], object] = lambda name, files: None
        self.tell: Callable[[], None] = lambda: None  # called when there is news for children
        self.told_in: Path | None = None  # the folder in which children are told
        self._maker = Process.current()
        self._news: inherited.News | None = None  # in a forked child
        self._watched = False

    def watch(self, on: bool) -> None:
        """Look at the markers themselves, or no longer: the maker is another process."""
        with self._changed:
            self._watched = on
            self._changed.notify_all()

    def guess(self, name: str, names: ImportNames) -> None:
        """Claim names that a distribution may turn out not to have; it is still unnamed."""
        with self._changed:
            if name in self.missing:
                self._add(name, names)

    def claim(self, name: str, names: ImportNames, files: dict[str, str] | None = None) -> None:
        """Note what a distribution can be imported as, and its dist-info files if known."""
        self.early(name, files or {})
        with self._changed:
            if name in self.missing:
                self._add(name, names)
                if files:
                    self._files[name] = files
            before = bool(self.unnamed)
            self.unnamed.discard(name)
            news = before and not self.unnamed
            self._changed.notify_all()
        if news:
            self.tell()

    def land(self, name: str) -> None:
        """Let the imports of a distribution go on; its files are all there."""
        self._let_in(name)

    def _let_in(self, name: str) -> None:
        self._take_paths(whole=False)
        inherited.look_again()
        with self._changed:
            self.missing.discard(name)
            self.unnamed.discard(name)
            self._files.pop(name, None)
            self._changed.notify_all()
        if not self.missing:
            gate.release(self)
            self._take_paths(whole=True)

    def _take_paths(self, *, whole: bool) -> None:
        path_files.take(str(site_of(self.root)), whole)

    def fail(self, error: ZerostartError) -> None:
        """Let every import that waits, or would have to, raise this."""
        with self._changed:
            self._error = error
            self.unnamed.clear()
            self._changed.notify_all()
        self.tell()

    def told(self) -> tuple[dict[str, Any], dict[str, dict[str, str]]]:
        """What another process has to know to wait as this one does; and texts of dist-infos."""
        with self._changed:
            roots = {
                root: [[name, sorted(below)] for name, below in claims.items()]
                for root, claims in self._roots.items()
            }
            error = None if self._error is None else str(self._error)
            body = {"names": sorted(self.missing), "unnamed": sorted(self.unnamed)}
            return {**body, "roots": roots, "error": error}, dict(self._files)

    def after_fork(self) -> None:
        """In a child nobody downloads; the parent's markers tell what has come, and what it writes
        for its children the rest."""
        self._changed = threading.Condition()
        self._news = inherited.News(str(self.told_in or ""))
        self.tell = lambda: None

    def wait(self, names: Iterable[str], what: str = "") -> None:
        """Return once these and what they need are there; raise if they will not come.

        `what` is said to whoever waits: the module that is being imported.
        """
        asked = [name for name in names if name in self.missing]
        if not asked or threading.current_thread() in gate.workers:
            return
        with _import_lock_given_back():
            for name in asked:
                if self._news is None:
                    self._demand(name)
            self._until(lambda: not self._left(asked), what or asked[0], lambda: self._left(asked))

    def wait_any(self, names: Iterable[str], what: str = "") -> None:
        """Return once one of these is there."""
        asked = list(names)
        if threading.current_thread() in gate.workers:
            return
        self._until(
            lambda: any(name not in self.missing for name in asked),
            what or asked[0],
            lambda: [name for name in asked if name in self.missing],
        )

    def wait_named(self) -> None:
        """Return once the import names of every distribution are known."""
        if self.unnamed and threading.current_thread() not in gate.workers:
            self._until(lambda: not self.unnamed, "An import", lambda: list(self.unnamed))

    def listed(self) -> Iterator[importlib.metadata.Distribution]:
        """All that is on its way, as far as its metadata is here; waits for the rest."""
        from zerostart_jupyter.install.listing import Coming

        self.wait_named()
        self.wait([name for name in sorted(self.missing) if name not in self._files])
        for name, files in sorted(self._files.items()):
            yield Coming(self, name, dict(files))

    def _add(self, name: str, names: ImportNames) -> None:
        for root, below in names.roots.items():
            gate.add(root, below, self, name)
            self._roots.setdefault(root, {})[name] = below

    def _left(self, asked: Sequence[str]) -> list[str]:
        needed = {each for name in asked for each in self._closure(name)}
        return [each for each in needed if each in self.missing]

    def _until(self, ready: Callable[[], bool], what: str, left: Callable[[], list[str]]) -> None:
        with _import_lock_given_back(), Waiting(what, shown=self._news is None) as waiting:
            while True:
                if self._news is not None:
                    self._hear(self._news)
                elif self._watched:
                    self._look()
                with self._changed:
                    if ready():
                        return
                    if self._error is not None:
                        raise _fresh(self._error)
                    if self._news is not None and self._news.error:
                        raise ImportError(f"{what} will not come: {self._news.error}")
                    awaited = left()
                    alone = self._news is None and not self._watched
                    self._changed.wait(NOTICE if alone else POLL)
                waiting.look(awaited)

    def _look(self) -> None:
        for name in self._come():
            self._let_in(name)

    def _come(self) -> Iterable[str]:
        return [name for name in self.missing if landed(self.root, name).exists()]

    def _hear(self, news: inherited.News) -> None:
        """In a forked child: look at the markers, and at what whoever brings it has told."""
        new = news.read()
        brought = self._maker.alive() if self.told_in is None else news.brought()
        self._look()
        if news.read() or new:
            for root, claims in news.roots.items():
                for name, below in claims:
                    if name in self.missing:
                        self._add(name, ImportNames({root: frozenset(below)}))
            self._files.update(news.texts())
            self.unnamed = self.missing & set(news.unnamed)
        if not brought and not news.error:
            self.missing.clear()
            self.unnamed.clear()
            gate.release(self)


class Gate:
    """The finder in front: claimed names, and metadata by name."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        # top-level name -> root -> [(pending, distribution, names below the root)]
        self._claims: dict[str, dict[str, list[tuple[Pending, str, frozenset[str]]]]] = {}
        self.pending: list[Pending] = []
        self.tops: set[str] = set()  # every name that was ever claimed
        self.workers: set[threading.Thread] = set()
        self.looked = 0.0  # when a claimed name was last looked for, as monotonic() counts

    def open(self, pending: Pending) -> None:
        """Take a set of coming distributions; one for the same environment is replaced."""
        with self._lock:
            for old in [each for each in self.pending if each.root == pending.root]:
                self._forget(old)
            self.pending.append(pending)
            if self not in sys.meta_path:
                sys.meta_path.insert(0, self)
                sys.meta_path.append(_last)

    def add(self, root: str, below: frozenset[str], pending: Pending, name: str) -> None:
        """Claim a name."""
        with self._lock:
            top = root.partition(".")[0]
            roots = dict(self._claims.get(top, {}))
            others = [claim for claim in roots.get(root, []) if claim[:2] != (pending, name)]
            roots[root] = [*others, (pending, name, below)]
            self._claims[top] = roots  # replaced, never changed under a reader
            self.tops.add(top)

    def release(self, pending: Pending) -> None:
        """Forget a set of distributions that has come."""
        with self._lock:
            self._forget(pending)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """None, always: once the name may be looked up, the ordinary finders find it."""
        roots = self._claims.get(fullname.partition(".")[0])
        if roots is not None:
            self._hold(fullname, roots)
        return None

    def invalidate_caches(self) -> None:
        """There are none."""

    def find_distributions(self, context: Any = None) -> Iterator[importlib.metadata.Distribution]:
        """Waits for a distribution that is asked for by name; lists those on their way."""
        wanted = getattr(context, "name", None)
        if threading.current_thread() in self.workers:
            return
        for pending in list(self.pending):
            if wanted is None:
                yield from pending.listed()
            else:
                pending.wait([re.sub(r"[-_.]+", "-", wanted).lower()])

    def _hold(
        self, fullname: str, roots: dict[str, list[tuple[Pending, str, frozenset[str]]]]
    ) -> None:
        self.looked = time.monotonic()
        parts = fullname.split(".")
        for depth in range(1, len(parts) + 1):
            claims = roots.get(".".join(parts[:depth]))
            if claims is None:
                continue
            if len(claims) == 1:
                claims[0][0].wait([claims[0][1]], fullname)
            elif depth == len(parts):
                claims[0][0].wait_any([name for _, name, _ in claims], fullname)
            else:
                for pending, name, below in claims:
                    if parts[depth] in below:
                        pending.wait([name], fullname)
        if fullname in roots:
            return
        # a namespace package, of which something has to be there before it is a package
        inside = [
            claim for root in roots if root.startswith(fullname + ".") for claim in roots[root]
        ]
        if inside:
            inside[0][0].wait_any([name for _, name, _ in inside], fullname)

    def _forget(self, pending: Pending) -> None:
        if pending in self.pending:
            self.pending.remove(pending)
        for top, roots in list(self._claims.items()):
            kept = {
                root: left
                for root, claims in roots.items()
                if (left := [claim for claim in claims if claim[0] is not pending])
            }
            if kept:
                self._claims[top] = kept
            else:
                del self._claims[top]

    def _after_fork(self) -> None:
        self._lock = threading.Lock()
        self.workers = set()
        for pending in self.pending:
            pending.after_fork()


class _Last:
    """The finder behind all others: a name nobody knows may belong to a wheel not yet read."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None = None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        if path is not None:
            return None
        unnamed = [pending for pending in gate.pending if pending.unnamed]
        if unnamed and inherited.by_the_library(fullname):
            return None
        for pending in unnamed:
            pending.wait_named()
        gate.find_spec(fullname)
        # It may also have come after the finders before this one had looked.
        if not unnamed and fullname not in gate.tops:
            return None
        return importlib.machinery.PathFinder.find_spec(fullname)

    def invalidate_caches(self) -> None:
        """There are none."""


@contextlib.contextmanager
def _import_lock_given_back() -> Iterator[None]:
    """Finders are called under the interpreter's one import lock. Waiting with it, also for another
    lock, would stop every import of every thread, those of the threads we wait for among them."""
    held = 0
    with contextlib.suppress(RuntimeError):  # no longer, or never, ours
        while True:
            _imp.release_lock()
            held += 1
    try:
        yield
    finally:
        for _ in range(held):
            _imp.acquire_lock()


def _fresh(error: ZerostartError) -> ZerostartError:
    # An instance of its own for each waiter: a raised exception collects tracebacks.
    return type(error)(error.message, remedy=error.remedy)


gate = Gate()
_last = _Last()
os.register_at_fork(after_in_child=gate._after_fork)
