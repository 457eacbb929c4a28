"""Earlier answers: a request's lock, kept for some hours, found again without starting uv."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock, digest, interpreter
from zerostart_jupyter.install.requirements import Request

ROOM = "locked"
_SETTLED = 10 * 10**9  # nanoseconds; what was just written may be written again unseen


def request_key(request: Request, indexes: Indexes, constraints: Sequence[str] = ()) -> str:
    """The key under which the answer to a request is kept."""
    return digest(request.parts(), indexes.fingerprint(), constraints, interpreter())


def cached(store: Store, key: str, hours: float) -> Lock | None:
    """An answer of no more than `hours` ago, or None."""
    entry = store.get(ROOM, key)
    if entry is None or not 0 <= time.time() - entry.created < hours * 3600:
        return None
    try:
        if any(_stamp(path) != stamp for path, stamp in entry.about.get("files", {}).items()):
            return None
        return Lock.from_json(entry.about)
    except (TypeError, KeyError, AttributeError):
        return None


def keep(store: Store, key: str, lock: Lock) -> None:
    """Remember an answer, in place of an older one; none in which a password stands."""
    if lock.volatile or any(urlsplit(each.url).username for each in lock.packages):
        return
    stamps = {path: _stamp(path) for path in lock.files}
    newest = time.time_ns() - _SETTLED
    if any(not stamp or max(stamp[1:3]) > newest for stamp in stamps.values()):
        return
    store.remove(ROOM, key)
    with store.publish(ROOM, key, {**lock.as_json(), "files": stamps}):
        pass


def _stamp(path: str) -> list[int]:
    """What changes with a file: its size, and when it was written or put there; none if gone."""
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]
