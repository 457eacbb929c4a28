"""Earlier answers: a request's lock, kept for some hours, found again without starting uv."""

from __future__ import annotations

import time
from collections.abc import Sequence
from urllib.parse import urlsplit

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock, digest, interpreter
from zerostart_jupyter.install.requirements import Request

ROOM = "locked"


def request_key(request: Request, indexes: Indexes, constraints: Sequence[str] = ()) -> str:
    """The key under which the answer to a request is kept."""
    return digest(request.parts(), indexes.fingerprint(), constraints, interpreter())


def cached(store: Store, key: str, hours: float) -> Lock | None:
    """An answer of no more than `hours` ago, or None."""
    entry = store.get(ROOM, key)
    if entry is None or not 0 <= time.time() - entry.created < hours * 3600:
        return None
    try:
        return Lock.from_json(entry.about)
    except (TypeError, KeyError):
        return None


def keep(store: Store, key: str, lock: Lock) -> None:
    """Remember an answer, in place of an older one; none in which a password stands."""
    if lock.volatile or any(urlsplit(each.url).username for each in lock.packages):
        return
    store.remove(ROOM, key)
    with store.publish(ROOM, key, lock.as_json()):
        pass
