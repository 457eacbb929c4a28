"""Files read in the place of others: copies of what is far, conversions of what is pickled."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from pathlib import Path

from zerostart_jupyter.core.events import Operation, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease
from zerostart_jupyter.load import filesystem
from zerostart_jupyter.load.arriving import Arriving, Stopped
from zerostart_jupyter.load.located import Located
from zerostart_jupyter.load.naming import PICKLED


def nearer(located: Located, settings: Settings) -> Located:
    """The same files, but those on a network file system read through copies of ours."""
    if not any(far(path) for path in located.files):
        return located
    from zerostart_jupyter.load.cache import ModelCache

    cache = ModelCache(settings=settings)
    near: dict[Path, Path] = {}
    arriving: dict[Path, Arriving] = {}
    leases: list[Lease] = []
    try:
        # In one order in every process: two that copy the same files must not wait in a circle.
        for path in sorted(located.files, key=lambda each: each.resolve()):
            found = cache.nearer(path)
            near[path] = path if found is None else found.path
            if isinstance(found, Arriving):
                arriving[found.path] = found
            elif found is not None:
                leases.append(found.lease)
    except BaseException:
        Located(located.title, (), None, arriving, leases).close()
        raise
    homes = located.homes and {name: near[path] for name, path in located.homes.items()}
    files = tuple(near[path] for path in located.files)
    return Located(located.title, files, homes, arriving, leases)


def brought(located: Located, settings: Settings) -> Located:
    """What `nearer` gives, with copies that are whole: their locks are held by nobody any more.

    For whoever reads when it likes, while other processes wait for the same files. Raises
    Cancelled, LoadError.
    """
    found = nearer(located, settings)
    try:
        for each in found.arriving.values():
            with operation("load", f"{each.path.name}, copied") as work, contextlib.closing(each):
                work.on_cancel(each.stop)
                _complete(each, settings.load_threads, work)
    except BaseException:
        found.close()
        raise
    return replace(found, arriving={})


def _complete(arriving: Arriving, threads: int, work: Operation) -> None:
    def told(here: int) -> None:
        work.update("", here, arriving.identity.size)

    try:
        arriving.complete(threads, told)
    except Stopped:
        work.check()
        raise


def far(path: Path) -> bool:
    """Whether a file lies on a network file system."""
    with contextlib.suppress(OSError):  # whoever opens it will say what is wrong
        return filesystem.of_path(path).network
    return False


def readable(located: Located, settings: Settings) -> Located:
    """The same tensors, in safetensors files: what torch pickled is converted once."""
    if not any(path.suffix in PICKLED for path in located.files):
        return located
    from zerostart_jupyter.load.conversion import converted

    instead: dict[Path, Path] = {}
    aliases: dict[str, str] = {}
    leases: list[Lease] = list(located.leases)
    try:
        for path in located.files:
            if path.suffix in PICKLED:
                found = converted(path, settings)
                leases.append(found.lease)
                instead[path] = found.path
                aliases |= found.aliases
    except BaseException:
        replace(located, leases=leases).close()
        raise
    homes = located.homes and {
        name: instead.get(path, path) for name, path in located.homes.items()
    }
    files = tuple(instead.get(path, path) for path in located.files)
    return replace(located, files=files, homes=homes, leases=leases, aliases=aliases)
