"""For Python processes that are started while packages arrive: imports wait for their own package.

This runs as a file of an environment (`children` puts it there) and stands alone: the process may
be of an interpreter that does not have this package. What is on its way is read from a file that
the installing process writes; what has come is told by markers, whoever brings it.
"""

from __future__ import annotations

import _imp
import importlib
import importlib.machinery
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

POLL = 0.05  # seconds between two looks at a marker
STATE, TEXTS = "arriving.json", "texts.json"


class News:
    """What the installing process says in a folder, as far as it was read; `missing` is what it
    said first. `error` is why the rest will not come."""

    def __init__(self, folder: str) -> None:
        self._file = os.path.join(folder, STATE)
        self._texts = os.path.join(folder, TEXTS)
        self._stamp = 0
        self._state: dict[str, Any] = {}
        self.missing: set[str] = set()
        self.roots: dict[str, list[tuple[str, list[str]]]] = {}

    def read(self) -> bool:
        """Read it if it is new; whether it was."""
        try:
            stamp = os.stat(self._file).st_mtime_ns
            if stamp == self._stamp:
                return False
            with open(self._file, encoding="utf-8") as file:
                self._state = json.load(file)
            if not self._stamp:
                self.missing = set(self._state["names"])
            self.roots = self._state["roots"]
            self._stamp = stamp
        except (OSError, ValueError, KeyError):
            self._state = {}
            return False
        return True

    @property
    def unnamed(self) -> list[str]:
        """Those of which nobody knows yet what they can be imported as."""
        return list(self._state.get("unnamed", ()))

    @property
    def error(self) -> str:
        """In a sentence, or empty."""
        return self._state.get("error") or ""

    def come(self, name: str) -> bool:
        """Whether a distribution is there, whoever brought it."""
        return os.path.exists(os.path.join(self._state.get("markers", ""), name))

    def brought(self) -> bool:
        """Whether anybody is still at work on it: who told us, or who has the lock."""
        return _born(self._state.get("pid", 0)) == self._state.get("born") or _locked(
            self._state.get("lock", "")
        )

    def texts(self) -> dict[str, dict[str, str]]:
        """The dist-info files that are known, by distribution."""
        try:
            with open(self._texts, encoding="utf-8") as file:
                found: dict[str, dict[str, str]] = json.load(file)
        except (OSError, ValueError):
            return {}
        return found


class Arriving:
    """The finder in front: names that a coming distribution has claimed, and metadata by name."""

    def __init__(self, folder: str, come: Callable[[bool], object]) -> None:
        """`come` is called when something has come, with whether that was all."""
        self._come = come
        self._news = News(folder)
        self._news.read()
        self._missing = self._news.missing
        self.unnamed: list[str] = []
        self._look()

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> None:
        """None, always: once the name may be looked up, the ordinary finders find it."""
        if not self._missing:
            return
        if self.unnamed:
            self._look()
        parts = fullname.split(".")
        for depth in range(1, len(parts) + 1):
            claims = self._news.roots.get(".".join(parts[:depth]), [])
            if len(claims) == 1:
                self.wait([claims[0][0]], fullname)
            elif claims and depth == len(parts):
                self.wait_any([name for name, _ in claims], fullname)
            else:
                self.wait([name for name, below in claims if parts[depth] in below], fullname)
        roots = self._news.roots
        if fullname not in roots:
            inside = [root for root in roots if root.startswith(f"{fullname}.")]
            self.wait_any([name for root in inside for name, _ in roots[root]], fullname)

    def find_distributions(self, context: Any = None) -> Iterator[Any]:
        """Waits for a distribution that is asked for by name; lists those on their way."""
        wanted = getattr(context, "name", None)
        if wanted is not None:
            self.wait([re.sub(r"[-_.]+", "-", wanted).lower()], f"The metadata of {wanted}")
        elif self._missing:
            self.wait_named("A list of distributions")
            texts = self._news.texts()
            self.wait([name for name in self._missing if name not in texts], "Metadata")
            for name in sorted(self._missing & texts.keys()):
                yield _coming(texts[name])

    def invalidate_caches(self) -> None:
        """There are none."""

    def wait(self, names: Sequence[str], what: str) -> None:
        """Return once all of these are there, or nobody brings them."""
        self._until(lambda: not any(name in self._missing for name in names), what)

    def wait_any(self, names: Sequence[str], what: str) -> None:
        """Return once one of these is there, or nobody brings them."""
        self._until(lambda: not names or any(name not in self._missing for name in names), what)

    def wait_named(self, what: str) -> None:
        """Return once the import names of every distribution are known, or nobody tells them."""
        self._until(lambda: not self.unnamed, what)

    def _until(self, ready: Any, what: str) -> None:
        if ready():
            return
        held = _given_back()
        try:
            while True:
                brought = self._news.brought()  # before the markers: the last may come meanwhile
                self._look()
                if ready():
                    return
                if self._news.error:
                    raise ImportError(f"{what} will not come: {self._news.error}")
                if not brought:
                    self._missing.clear()
                    self.unnamed = []
                    return
                time.sleep(POLL)
        finally:
            for _ in range(held):
                _imp.acquire_lock()

    def _look(self) -> None:
        """Read what the installing process says, if it says something new; look at the markers."""
        self._news.read()
        come = {name for name in self._missing if self._news.come(name)}
        self._missing -= come
        self.unnamed = [name for name in self._news.unnamed if name in self._missing]
        if come:
            self._come(not self._missing)
            look_again()


def look_again() -> None:
    """Have finders see what has come since.

    Two threads that do so at once may both want an entry of `sys.path_importer_cache` gone, and the
    second gets a KeyError: that entry is no more when it begins anew.
    """
    for _ in range(100):
        try:
            importlib.invalidate_caches()
            return
        except KeyError:
            continue
    importlib.invalidate_caches()  # what goes on for so long is no race


class Last:
    """The finder behind all others: a name nobody knows may belong to a wheel not yet read."""

    def __init__(self, first: Arriving) -> None:
        self._first = first

    def find_spec(self, fullname: str, path: Any = None, target: Any = None) -> Any:
        """A spec only where the name was claimed after the other finders had looked."""
        if path is not None or not self._first.unnamed or by_the_library(fullname):
            return None
        self._first.wait_named(fullname)
        self._first.find_spec(fullname)
        return importlib.machinery.PathFinder.find_spec(fullname)

    def invalidate_caches(self) -> None:
        """There are none."""


def by_the_library(name: str) -> bool:
    """Whether it is the standard library that has a finder, who asks this, look for a name: `site`
    for what may adapt it, or a module at its top. What is tried there is for other Pythons,
    `org.python` for Jython say, and in no wheel; in its functions it may be for somebody else."""
    if name in ("sitecustomize", "usercustomize"):
        return True
    frame: Any = sys._getframe(2)
    while frame is not None and frame.f_code.co_filename.startswith("<frozen importlib"):
        frame = frame.f_back
    if frame is None or frame.f_code.co_name != "<module>":
        return False
    module = str(frame.f_globals.get("__name__"))
    return module.partition(".")[0] in sys.stdlib_module_names


def _coming(texts: dict[str, str]) -> Any:
    """A distribution of which the metadata is known, and nothing else is here."""
    import importlib.metadata
    import pathlib

    class Coming(importlib.metadata.Distribution):
        def read_text(self, filename: str) -> str | None:
            return texts.get(str(filename))

        def locate_file(self, path: Any) -> Any:
            return pathlib.Path(texts["root"], path)

    return Coming()


def _given_back() -> int:
    """Let go of the interpreter's import lock, under which finders run; how often it was held."""
    held = 0
    try:
        while True:
            _imp.release_lock()
            held += 1
    except RuntimeError:  # no longer ours
        return held


def _born(pid: int) -> str:
    """When a process started, as proc(5) has it; "" if it has ended."""
    try:
        with open(f"/proc/{pid}/stat", encoding="utf-8") as file:
            fields = file.read().rpartition(")")[2].split()
    except OSError:
        return ""
    return "" if fields[0] in "ZX" else fields[19]


def _locked(path: str) -> bool:
    import fcntl

    try:
        with open(path, "rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False


def begin(folder: str, come: Callable[[bool], object]) -> None:
    """Put the finders in place, if anything is on its way; `come` as of `Arriving`."""
    first = Arriving(folder, come)
    if first._missing:
        sys.meta_path.insert(0, first)
        sys.meta_path.append(Last(first))
