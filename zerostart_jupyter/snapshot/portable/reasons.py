"""What cannot be saved without its process, in words."""

from __future__ import annotations

import io
import sys
import types
from collections.abc import Callable
from typing import Any


class Unsaveable(Exception):
    """An object that means nothing in another process; the message says what it is."""


# module, class, what to call it; a module that was never imported has no objects
_KINDS = (
    ("threading", "Thread", "a thread"),
    ("_thread", "LockType", "a lock"),
    ("_thread", "RLock", "a lock"),
    ("_thread", "_local", "the data of one thread"),
    ("socket", "socket", "a socket"),
    ("subprocess", "Popen", "a running program"),
    ("multiprocessing.process", "BaseProcess", "a process"),
    ("multiprocessing.pool", "Pool", "a pool of processes"),
    ("concurrent.futures", "Executor", "a pool of workers"),
    ("concurrent.futures", "Future", "a result that is being computed"),
    ("asyncio", "Future", "a task"),
    ("asyncio", "AbstractEventLoop", "an event loop"),
    ("sqlite3", "Connection", "an open database"),
    ("sqlite3", "Cursor", "an open database"),
    ("mmap", "mmap", "a mapped file"),
    ("select", "epoll", "a poll object"),
    ("types", "GeneratorType", "a generator"),
    ("types", "CoroutineType", "a coroutine"),
    ("types", "AsyncGeneratorType", "a generator"),
    ("types", "FrameType", "a frame of a running function"),
    ("types", "TracebackType", "a traceback"),
    ("weakref", "ReferenceType", "a weak reference"),
    ("_io", "_IOBase", "an open file"),
)
_IN_MEMORY = (io.BytesIO, io.StringIO)


def examiner() -> Callable[[Any], str | None]:
    """A function that says what keeps an object from being saved, or None."""
    known = []
    for module, name, what in _KINDS:
        kind = getattr(sys.modules.get(module), name, None)
        if isinstance(kind, type):
            known.append((kind, what))
    kinds = tuple(kind for kind, _ in known)

    def examine(value: Any) -> str | None:
        if not isinstance(value, kinds) or isinstance(value, _IN_MEMORY):
            return None
        what = next(what for kind, what in known if isinstance(value, kind))
        if isinstance(value, io.IOBase):
            path = getattr(value, "name", None)
            return f"{what} {path!r}" if isinstance(path, str) else what
        return what

    return examine


def words(error: BaseException, value: Any) -> str:
    """Why pickling a value failed, for the list of what was not saved."""
    if isinstance(error, Unsaveable):
        # The value itself, or something inside of it.
        return f"{'it is' if _plain(value) else 'it holds'} {error}"
    # cloudpickle turns the one into an error of its own.
    if isinstance(error, RecursionError) or isinstance(error.__cause__, RecursionError):
        return "it is nested too deeply"
    text = str(error).strip().splitlines()
    return text[0][:200] if text else type(error).__name__


def _plain(value: Any) -> bool:
    return isinstance(value, types.ModuleType) or examiner()(value) is not None
