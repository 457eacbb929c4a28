"""What can be fetched while uv still resolves: wheels that its answer will probably name.

Every project that was asked for is looked up in the index, and so is what the wheels found there
need. No version is decided here. A wheel that uv's answer does not have is let go of, and what it
had brought by then was in vain; what is right has a second or more of advantage on a link with
some latency. An index that answers at once answers uv as well: then nothing is guessed, since both
would only wait for each other's processor.
"""

from __future__ import annotations

import contextlib
import http.client
import itertools
import logging
import os
import re
import sys
import threading
import time
from collections import deque
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement
from packaging.utils import canonicalize_name

from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import pages
from zerostart_jupyter.install.crew import Crew
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.intake import Opened
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.pipeline import Pipeline
from zerostart_jupyter.install.requirements import Request

log = logging.getLogger(__name__)

_THREADS = 4
NEAR = 0.015  # seconds in which a page has come, from the first byte of a connection on
# Variables that say where to look and not what to choose; any other may make a guess wrong.
_HARMLESS = re.compile(
    r"UV_(DEFAULT_INDEX|INDEX|INDEX_URL|EXTRA_INDEX_URL|FIND_LINKS|KEYRING_PROVIDER|NO_CONFIG"
    r"|INSECURE_HOST|NATIVE_TLS|SYSTEM_CERTS|LINK_MODE|PYTHON.*)|UV_INDEX_.*_(USERNAME|PASSWORD)"
)


class HeadStart:
    """Guesses for one request, from `begin()` to `close()`; its `pipeline` goes on with them."""

    def __init__(
        self, request: Request, indexes: Indexes, store: Store, settings: Settings, work: Operation
    ) -> None:
        self.pipeline = Pipeline(store, settings, indexes, work)
        self._request = request
        self._indexes = indexes
        self._simple = indexes.simple
        self._changed = threading.Condition()
        self._wanted: deque[Requirement] = deque()
        self._seen: set[str] = set()
        self._extras: dict[str, set[str]] = {}
        self._over = False
        self._crew = Crew(lambda error: log.debug("a guess failed", exc_info=error))

    def begin(self, kept: Collection[str] = ()) -> None:
        """Look up what was asked for, but the `kept` distributions: they are here already."""
        if not self._simple or self._indexes.offline or not self._plain():
            return
        self._seen.update(kept, _constrained(self._indexes.arguments))
        self.pipeline.foresaw = self._needs
        self._want(_asked(self._request))
        self._crew.add("zerostart-guess", [self._guess] * min(_THREADS, len(self._wanted)))
        self._crew.start()

    def end(self) -> None:
        """Guess no more: the answer is here."""
        with self._changed:
            self._over = True
            self._changed.notify_all()

    def close(self) -> None:
        """End it, and what it had begun, unless the pipeline has been run."""
        self.end()
        self.pipeline.close()
        self._crew.join()

    def _plain(self) -> bool:
        """Whether nothing is configured that would have uv choose otherwise."""
        chosen = {"--prerelease", "--no-index"} & set(self._indexes.arguments)
        return not (chosen or self._request.project) and all(
            _HARMLESS.fullmatch(name) or not name.startswith("UV_")
            for name in self._indexes.environment
        )

    def _want(self, wanted: Iterable[Requirement]) -> None:
        with self._changed:
            for each in wanted:
                name = canonicalize_name(each.name)
                self._extras.setdefault(name, set()).update(each.extras)
                if name not in self._seen and name.replace("-", "_") not in sys.modules:
                    self._seen.add(name)
                    self._wanted.append(each)
            self._changed.notify_all()

    def _needs(self, locked: Locked, opened: Opened) -> None:
        """Guess what a wheel needs that was guessed."""
        extras = self._extras.get(locked.name, set()) | {""}
        self._want(_requirements(opened.requires, extras))

    def _guess(self) -> bool:
        with self._changed:
            while not self._wanted:
                if self._over:
                    return False
                self._changed.wait()
            wanted = self._wanted.popleft()
            if self._over:
                return False
        locked = self._look_up(wanted)
        if locked is not None:
            self.pipeline.foresee(locked)
        return True

    def _look_up(self, wanted: Requirement) -> Locked | None:
        """The likely wheel, in the first index that knows the project."""
        name = canonicalize_name(wanted.name)
        for index in self._simple:
            address = f"{index.rstrip('/')}/{name}/"
            asked = time.monotonic()
            try:
                with self.pipeline.connections.get(address, {"Accept": pages.ACCEPT}) as page:
                    if page.status != 200:
                        continue
                    body, kind = page.read(pages.LARGEST), page.headers.get("Content-Type") or ""
                    if time.monotonic() - asked < NEAR:
                        self.end()
                        return None
                    return pages.likely(pages.files(body, kind, page.url), wanted)
            except (OSError, http.client.HTTPException) as error:
                log.debug("%s was not looked up: %s", name, error)
                return None
        return None


def _asked(request: Request) -> Iterator[Requirement]:
    lines = list(request.specs)
    for path in request.files:
        lines += _lines(path)
    yield from _requirements(lines, {""})


def _lines(path: Path) -> list[str]:
    """The plain requirements of a file; what else it says is uv's business."""
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            import tomllib

            return list(tomllib.loads(text)["project"]["dependencies"])
        if path.suffix != ".py":
            return [re.sub(r"(^|\s)#.*$", "", line) for line in text.splitlines()]
    return []


def _requirements(lines: Iterable[str], extras: set[str]) -> Iterator[Requirement]:
    for line in lines:
        try:
            found = Requirement(re.sub(r"\s--hash=\S+", "", line).rstrip(" \\"))
        except (InvalidRequirement, TypeError):
            continue
        if found.url is None and (
            found.marker is None or any(found.marker.evaluate({"extra": each}) for each in extras)
        ):
            yield found


def _constrained(arguments: Iterable[str]) -> set[str]:
    """The projects that files of constraints name."""
    words = list(arguments)
    found: set[str] = set()
    for option, value in itertools.pairwise(words):
        if option == "--constraints" and os.path.isfile(value):
            found.update(
                canonicalize_name(each.name) for each in _requirements(_lines(Path(value)), {""})
            )
    return found
