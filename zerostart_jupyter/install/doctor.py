"""What the install engine finds on this machine, for `zerostart doctor`."""

from __future__ import annotations

import os
import shutil
import tempfile
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import system_cuda
from zerostart_jupyter.install.indexes import read_indexes

_PERMISSIONS = "Check its permissions, or set ZEROSTART_CACHE elsewhere."


def capabilities(settings: Settings | None = None) -> list[Capability]:
    """uv, the cache, hardlinks, room on the disk, index settings and CUDA, as they were found."""
    settings = settings or Settings.read()
    return [_uv(), *_cache(settings.cache), _indexes(), system_cuda.capability(settings)]


def _uv() -> Capability:
    from zerostart_jupyter.install.resolve import find_uv

    try:
        return Capability("uv", True, find_uv())
    except ZerostartError as error:
        return Capability("uv", False, error.message, error.remedy)


def _cache(root: Path) -> list[Capability]:
    try:
        store = Store(root)
        with tempfile.TemporaryDirectory(dir=store.root / "environments", prefix=".staging-") as to:
            linked = _links(store.root / "wheels", Path(to))
    except ZerostartError as error:
        return [Capability("package cache", False, error.message, error.remedy)]
    except OSError as error:
        return [Capability("package cache", False, f"{root}: {error.strerror}.", _PERMISSIONS)]
    free = shutil.disk_usage(root).free / 2**30
    roomy = free >= 5
    return [
        Capability("package cache", True, f"{root} is ours and writable"),
        Capability(
            "hardlinks",
            linked,
            "environments share files with the cache"
            if linked
            else "the cache's file system has no hardlinks: files are copied",
            "" if linked else "Put ZEROSTART_CACHE on a file system with hardlinks.",
        ),
        Capability(
            "disk space",
            roomy,
            f"{free:.1f} GiB free",
            "" if roomy else "Run `zerostart cache prune`, or set ZEROSTART_CACHE elsewhere.",
        ),
    ]


def _links(wheels: Path, environment: Path) -> bool:
    with tempfile.NamedTemporaryFile(dir=wheels, prefix=".staging-") as file:
        try:
            os.link(file.name, environment / "link")
        except OSError:
            return False
    return True


def _indexes() -> Capability:
    found = read_indexes()
    names = [url.rpartition("@")[2].partition("://")[2] or url for url in found.urls]
    names = [url.rpartition("@")[2] for url in names]
    return Capability("package index", True, ", ".join(names) or "uv's default index")
