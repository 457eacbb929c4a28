"""The markers of this user's snapshots, each read once for as long as it stays as it is.

A server lists hundreds of snapshots again and again: what has not changed is told by two lstat(2)
a snapshot, and nothing is opened.
"""

from __future__ import annotations

import os
import stat

from zerostart_jupyter.core.store import MARKER, Entry, Store

Stamp = tuple[int, int, int, int]

_read: dict[str, dict[str, tuple[Stamp, Entry]]] = {}  # by room and key, for the whole process


def entries(store: Store, room: str) -> list[Entry]:
    """What is published in a room and belongs to this user, oldest first."""
    folder = os.path.join(store.root, room)
    before, now = _read.get(folder, {}), {}
    for key in _names(folder):
        stamp = None if key.startswith(".") else _stamp(os.path.join(folder, key))
        if stamp is None:
            continue
        known = before.get(key)
        if known is None or known[0] != stamp:
            try:
                entry = store.get(room, key)
            except ValueError:  # a name that no entry of ours can have
                continue
            if entry is None:
                continue
            known = stamp, entry
        now[key] = known
    _read[folder] = now
    return sorted((entry for _, entry in now.values()), key=lambda entry: entry.created)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)
    except FileNotFoundError:
        return []


def _stamp(path: str) -> Stamp | None:
    """What changes with a marker; None without one, or where another user may have put it."""
    try:
        marker, directory = os.lstat(os.path.join(path, MARKER)), os.lstat(path)
    except OSError:
        return None
    # A snapshot is somebody's memory, and code that will run: neither a link nor a stranger's.
    if not stat.S_ISDIR(directory.st_mode) or not stat.S_ISREG(marker.st_mode):
        return None
    if {directory.st_uid, marker.st_uid} != {os.geteuid()}:
        return None
    return marker.st_ino, marker.st_mtime_ns, marker.st_ctime_ns, marker.st_size
