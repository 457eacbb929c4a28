"""What the answer to a `run` depended on, noted for `replay`."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import answers, children, replay
from zerostart_jupyter.install.indexes import pip_files, read_indexes
from zerostart_jupyter.install.installation import Installation
from zerostart_jupyter.install.requirements import Request, candidates, includes


def note(
    request: Request,
    script: str,
    named: Sequence[Path],
    words: Sequence[str],
    found: Installation,
) -> None:
    """Note that this script, with these words of its own, is run in this environment, which may
    be still on its way; `named` are the files of requirements as they were named. It is done before
    the script runs, which may change what the answer depended on.

    Does nothing where more than what can be compared had its say in that: what a project's table
    names, files of wheels, what an interpreter had imported, the system's CUDA libraries.
    """
    settings = Settings.read()
    if request.project or settings.system_cuda:
        return
    with contextlib.suppress(OSError):  # a cache that is full or read-only is good enough to run
        store = Store(settings.cache)
        indexes = read_indexes(request.index)
        key = answers.request_key(request, indexes)
        hours = float("inf") if indexes.offline else settings.lock_hours
        lock = answers.cached(store, key, hours)
        entry = store.get(answers.ROOM, key)
        if lock is None or entry is None or lock.files:
            return
        if lock.environment_key() != found.environment.name:
            return
        replay.keep(
            store,
            script,
            words,
            str(found.environment),
            str(found.site_packages),
            str(children.folder(found.environment)),
            str(entry.path),
            (entry.created, entry.created + hours * 3600),
            [script, *map(str, named)],
            map(str, _files(request, Path(script))),
        )


def _files(request: Request, script: Path) -> Iterator[Path]:
    yield from pip_files(os.environ)
    yield from candidates(script.resolve().parent)
    for path in request.files:
        yield from (name for name, _ in includes(path))
