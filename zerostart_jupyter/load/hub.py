"""The hub as the user configured it: ids, address, token, and the cache on disk.

Layout: huggingface_hub, "Understand caching": `models--ORG--NAME/{refs,snapshots,blobs}`.
"""

from __future__ import annotations

import contextlib
import os
import re
from pathlib import Path
from urllib.parse import unquote, urlsplit

# org/name or name, as the hub allows them; a revision may follow an @.
_FILE = re.compile(r"([\w][\w.-]*/[\w][\w.-]*)/(?:resolve|blob|raw)/([^/]+)/(.+)")
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
    return home() / "hub"


def home() -> Path:
    """HF_HOME, where the token is kept, too."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("HF_HOME") or os.path.join(base, "huggingface")).expanduser()


def endpoint() -> str:
    """The address of the hub, without a slash at its end."""
    return (os.environ.get("HF_ENDPOINT") or "https://huggingface.co").rstrip("/")


def offline() -> bool:
    """Whether the user wants no request to be made."""
    return _set("HF_HUB_OFFLINE") or _set("TRANSFORMERS_OFFLINE")


def token() -> str | None:
    """What proves who asks: HF_TOKEN, or what `hf auth login` left behind."""
    if _set("HF_HUB_DISABLE_IMPLICIT_TOKEN"):
        return None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if found := "".join(os.environ.get(name, "").split()):
            return found
    path = Path(os.environ.get("HF_TOKEN_PATH") or home() / "token").expanduser()
    try:
        return "".join(path.read_text().split()) or None
    except (OSError, ValueError):
        return None


def folder(repository: str) -> Path:
    """Where a repository is kept."""
    return cache() / ("models--" + repository.replace("/", "--"))


def commit(repository: str, revision: str) -> str | None:
    """The commit that a downloaded branch or tag was at; a commit is its own."""
    found = revision
    with contextlib.suppress(OSError, ValueError):  # a commit has no ref of its own
        found = (folder(repository) / "refs" / revision).read_text().strip()
    return found if found and "/" not in found else None


def snapshot(repository: str, revision: str = "main") -> Path | None:
    """The directory of a downloaded revision, or None. `revision` is a branch, tag or commit."""
    known = commit(repository, revision)
    if known is None:
        return None
    found = folder(repository) / "snapshots" / known
    return found if found.is_dir() else None


def in_address(url: str) -> tuple[str, str, str] | None:
    """(repository, revision, file) if an address is one of the hub's files; "" for all files."""
    if not url.startswith(endpoint() + "/"):
        return None
    path = unquote(urlsplit(url[len(endpoint()) :]).path).strip("/")
    match = _FILE.fullmatch(path)
    if match is not None:
        return match[1], match[2], match[3]
    return (path, "main", "") if path.count("/") == 1 and _ID.fullmatch(path) else None


def _set(name: str) -> bool:
    return os.environ.get(name, "").strip().upper() in ("1", "ON", "YES", "TRUE")
