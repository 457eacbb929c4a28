"""The hub's cache on disk: which snapshot directory holds a model that was downloaded before.

Layout: huggingface_hub, "Understand caching": `models--ORG--NAME/{refs,snapshots,blobs}`.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path

# org/name or name, as the hub allows them; a revision may follow an @.
_ID = re.compile(r"(?:hf://)?((?:[\w][\w.-]{0,95}/)?[\w][\w.-]{0,95})(?:@([\w./-]+))?")


def parse(source: str) -> tuple[str, str] | None:
    """(repository, revision) if a source reads like a hub id, else None."""
    match = _ID.fullmatch(source)
    if match is None or ".." in source:
        return None
    return match[1], match[2] or "main"


def cache() -> Path:
    """Where huggingface_hub keeps repositories, by its own environment variables."""
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if os.environ.get(name):
            return Path(os.environ[name]).expanduser()
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("HF_HOME") or os.path.join(base, "huggingface")
    return Path(home).expanduser() / "hub"


def snapshot(repository: str, revision: str = "main") -> Path | None:
    """The directory of a downloaded revision, or None. `revision` is a branch, tag or commit."""
    folder = cache() / ("models--" + repository.replace("/", "--"))
    commit = revision
    with contextlib.suppress(OSError, ValueError):  # a commit has no ref of its own
        commit = (folder / "refs" / revision).read_text().strip()
    if not commit or "/" in commit:
        return None
    found = folder / "snapshots" / commit
    return found if found.is_dir() else None
