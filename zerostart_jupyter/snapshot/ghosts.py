"""Deleted files that were open: CRIU brings each back under a name of its own, and removes that.

The name is the same in every restore of a snapshot, and CRIU refuses one that is taken: by another
restore at the same moment, or for ever by one that was killed.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import images

_LOCK = "ghosts"


@contextlib.contextmanager
def places(store: Store, directory: Path, timeout: float) -> Iterator[None]:
    """Have these images' names be free, and for us alone; raises StoreError after `timeout`."""
    names = images.ghosts(directory)
    if not names:
        yield
        return
    with store.lock(_LOCK, timeout=timeout):
        for each in names:
            with contextlib.suppress(OSError):  # then CRIU says what is wrong
                _nearest(each).unlink(missing_ok=True)
        yield


def _nearest(path: Path) -> Path:
    """Where CRIU puts it: higher up as long as there is no such directory."""
    return next(up for up in path.parents if up.is_dir()) / path.name
