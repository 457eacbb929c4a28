"""A hub id or an address → files, of which some are still to come: their headers are here first.

What a repository holds and at which commit is asked once; each file's ETag and size, and its
first bytes, are asked for several files at a time. Everything after that is the loader's order.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple, TypeVar
from urllib.parse import SplitResult, parse_qsl, quote, unquote, urlencode, urljoin, urlsplit

from zerostart_jupyter.core.connections import Connections, basic, origin, shown, whole_number
from zerostart_jupyter.core.errors import CheckpointInvalid, LoadError
from zerostart_jupyter.core.events import Operation, State, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease, Store
from zerostart_jupyter.load import hub
from zerostart_jupyter.load.arriving import Arriving, Stopped
from zerostart_jupyter.load.cache import ModelCache
from zerostart_jupyter.load.http import (
    TRIES,
    HttpFile,
    Refused,
    Session,
    refusal_error,
    strong_validator,
)
from zerostart_jupyter.load.places import ROOM, Kept, Snapshot, in_store

HEAD = 256 << 10  # bytes of each file that are fetched before anything is planned: its header
HURRY = 10.0  # seconds, as huggingface_hub waits before it falls back
AT_ONCE = 8  # files asked about at a time
TOLD = 16 << 20  # bytes that have to be here as a whole from which on that is an operation

_SIGNATURE = re.compile(
    r"X-(Amz|Goog)-.*|Expires|Signature|Key-Pair-Id|Policy|s[a-z]|se|sig|token", re.IGNORECASE
)

A = TypeVar("A")
B = TypeVar("B")


class Here(NamedTuple):
    """A file that somebody else has brought meanwhile."""

    path: Path


@dataclass
class Fetched:
    """Files by the names they were asked by, and those of them whose bytes are still to come."""

    files: dict[str, Path] = field(default_factory=dict)
    arriving: dict[Path, Arriving] = field(default_factory=dict)
    leases: list[Lease] = field(default_factory=list)

    def close(self) -> None:
        """Let go of what is still to come, and of what is kept."""
        for arriving in self.arriving.values():
            arriving.close()
        for lease in self.leases:
            lease.close()


@dataclass(frozen=True)
class Coming:
    """A file that is not here and will be `file`: `begin` takes the lock that `key` names, and may
    have to wait."""

    key: str
    file: Path
    begin: Callable[[], Kept | Here | Arriving]


class Remote:
    """Names → files, from one place on the network. Use it in a `with`.

    `hurried`: there is something to fall back on, so whoever does not answer is not waited for.
    """

    def __init__(self, settings: Settings, *, hurried: bool = False) -> None:
        token = hub.token()
        trusted = origin(hub.endpoint())

        def authorize(parts: SplitResult) -> Mapping[str, str]:
            # The token goes to the hub's own host, over the way that was configured, alone.
            if token and origin(parts.geturl()) == trusted:
                return {"Authorization": f"Bearer {token}"}
            return basic(parts)

        timeout = min(settings.http_timeout, HURRY) if hurried else settings.http_timeout
        self.session = Session(Connections(timeout, authorize=authorize))
        self._tries = 1 if hurried else TRIES
        self._settings = settings

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        self.session.close()

    def repository(self, name: str, revision: str) -> Repository:
        """A repository of the hub. Raises CheckpointNotFound, DownloadFailed."""
        url = f"{hub.endpoint()}/api/models/{name}/revision/{quote(revision, safe='')}"
        what = f"model {name} at {revision} on {urlsplit(url).hostname}"
        body = _json(self._body(url, what), what)
        commit, listed = body.get("sha"), body.get("siblings")
        if not isinstance(commit, str) or not isinstance(listed, list):
            raise _not_a_hub(what)
        names = [each.get("rfilename") for each in listed if isinstance(each, dict)]
        snapshot = Snapshot(name, revision, commit)
        return Repository(self, name, snapshot, [each for each in names if isinstance(each, str)])

    def address(self, url: str) -> Website:
        """The files beside an address."""
        return Website(self, url, self._settings)

    def fetch(
        self, names: Sequence[str], ask: Callable[[str], Path | Coming], *, whole: bool
    ) -> Fetched:
        """Files that are here or begun, their headers' bytes fetched; all bytes with `whole`.

        Each is asked about at the same time as others. Their locks are taken in one order, the
        same in every process: two that want the same files must not wait for each other.
        """
        found = Fetched()
        try:
            answers = dict(zip(names, self._all(ask, names), strict=True))
            begun: dict[str, Arriving] = {}
            coming = [(name, each) for name, each in answers.items() if isinstance(each, Coming)]
            for name, each in sorted(coming, key=lambda item: item[1].key):
                got = begun.get(each.key) or each.begin()
                found.files[name] = got.path
                if isinstance(got, Kept):
                    found.leases.append(got.lease)
                elif isinstance(got, Arriving):
                    begun[each.key] = found.arriving[got.path] = got
            found.files |= {name: each for name, each in answers.items() if isinstance(each, Path)}
            self._all(lambda each: each.fetch(0, min(HEAD, each.identity.size)), begun.values())
            if whole:
                self._complete(
                    {
                        name or found.files[name].name: found.arriving[found.files[name]]
                        for name, _ in coming
                        if found.files[name] in found.arriving
                    }
                )
                found.arriving.clear()
                found.files |= {name: each.file for name, each in coming}
        except BaseException:
            found.close()
            raise
        return found

    def _complete(self, arriving: Mapping[str, Arriving]) -> None:
        total = sum(each.identity.size for each in arriving.values())
        title = f"{', '.join(arriving)}, downloaded"
        shown = operation("load", title) if total >= TOLD else contextlib.nullcontext()
        with shown as work:
            if work is not None:
                work.on_cancel(self.session.cancel)
            before = 0
            for name, each in arriving.items():
                with contextlib.closing(each):
                    self._bring(each, name, work, before, total)
                before += each.identity.size

    def _bring(
        self, arriving: Arriving, name: str, work: Operation | None, before: int, total: int
    ) -> None:
        def told(here: int) -> None:
            if work is not None:
                size = arriving.identity.size
                state = State.RUNNING if here < size else State.DONE
                work.update(name, here, size, state=state)
                work.update("", before + here, total)

        try:
            arriving.complete(self._settings.parallel_downloads, told)
        except Stopped:
            if work is not None:
                work.check()
            raise

    def _all(self, do: Callable[[A], B], items: Iterable[A]) -> list[B]:
        with ThreadPoolExecutor(AT_ONCE) as pool:
            tasks = [pool.submit(do, item) for item in items]
            try:
                return [task.result() for task in tasks]
            except BaseException:
                # The first error is the one to tell; what else is under way ends with it.
                self.session.cancel()
                raise

    def _body(self, url: str, what: str) -> bytes:
        try:
            return self.session.body(url, tries=self._tries)[0]
        except Refused as refusal:
            raise refusal_error(refusal, what) from refusal


class Repository:
    """One commit of a repository of the hub: `names` are its files."""

    def __init__(self, remote: Remote, name: str, snapshot: Snapshot, names: Sequence[str]) -> None:
        self.title = name
        self.names = names
        self.snapshot = snapshot
        self._remote = remote

    def fetch(self, names: Sequence[str], *, whole: bool = False) -> Fetched:
        """These files, in the hub's cache or on their way into it."""
        found = self._remote.fetch(names, self._ask, whole=whole)
        try:
            self.snapshot.remember()
        except BaseException:
            found.close()
            raise
        return found

    def _ask(self, name: str) -> Path | Coming:
        file = self.snapshot.file(name)
        if file.exists():
            return file
        session = self._remote.session
        url = f"{hub.endpoint()}/{self.title}/resolve/{self.snapshot.commit}/{quote(name)}"
        try:
            answer = session.head(url)
        except Refused as refusal:
            raise refusal_error(refusal, f"file {name} of {self.title}") from refusal
        linked = answer.headers.get("X-Linked-Etag")
        etag = (linked or answer.headers.get("ETag") or "").removeprefix("W/").strip('"')
        said = answer.headers.get("X-Linked-Size")
        if not said and answer.status == 200:
            said = answer.headers.get("Content-Length")
        size = whole_number(said)
        if not etag or size is None:
            raise _not_a_hub(f"file {name} of {self.title}")
        own = strong_validator(answer) if answer.status == 200 and not linked else None

        def begin() -> Here | Arriving:
            place = self.snapshot.place(name, etag, session.check)
            if place is None:
                return Here(file)
            return Arriving(place, HttpFile(session, answer.url, size, own), size)

        return Coming(etag, file, begin)


class Website:
    """Files behind addresses, each kept in the store under its content's validator."""

    def __init__(self, remote: Remote, url: str, settings: Settings) -> None:
        self.title = unquote(urlsplit(url).path).rpartition("/")[2] or str(urlsplit(url).hostname)
        self._remote = remote
        self._url = url
        self._settings = settings
        self._store = Store(settings.cache)

    def fetch(self, names: Sequence[str], *, whole: bool = False) -> Fetched:
        """The files of these names beside the address; "" is the address itself."""
        return self._remote.fetch(names, self._ask, whole=whole)

    def _ask(self, name: str) -> Coming:
        url = urljoin(self._url, quote(name)) if name else self._url
        session = self._remote.session
        try:
            size, answer = session.peek(url)
        except Refused as refusal:
            raise refusal_error(refusal, f"file {shown(url)}") from refusal
        validator = answer.headers.get("ETag") or answer.headers.get("Last-Modified")
        key = "url-" + sha256(f"{_unsigned(url)}\n{validator}\n{size}".encode()).hexdigest()[:40]
        if validator is None:  # the same address may have other bytes each time
            self._store.remove(ROOM, key)
            self._store.remove("partial", key)
        named = re.sub(r"[^\w.+-]", "_", unquote(urlsplit(url).path).rpartition("/")[2])
        kept = named.lstrip(".") or "file"
        about = {"source": shown(url), "kind": "address", "bytes": size}
        own = strong_validator(answer) if answer.url == url else None

        def begin() -> Kept | Arriving:
            room = ModelCache(settings=self._settings).make_room(size)
            place = in_store(self._store, key, kept, key, about, session.check)
            if isinstance(place, Kept):
                return place
            if not room:
                place.release()
                raise LoadError(
                    f"There is no room to keep {shown(url)}, {size / (1 << 30):.2f} GiB.",
                    remedy="Make room, raise ZS_MODEL_CACHE_GB, or move the cache with "
                    "ZEROSTART_CACHE.",
                )
            return Arriving(place, HttpFile(session, url, size, own), size)

        return Coming(key, self._store.path(ROOM, key) / kept, begin)


def _unsigned(url: str) -> str:
    """An address without what changes with each signature."""
    parts = urlsplit(url)
    kept = [(key, value) for key, value in parse_qsl(parts.query) if not _SIGNATURE.fullmatch(key)]
    return f"{shown(url)}?{urlencode(kept)}"


def _json(body: bytes, what: str) -> dict[str, Any]:
    with contextlib.suppress(ValueError, RecursionError):
        found = json.loads(body)
        if isinstance(found, dict):
            return found
    raise _not_a_hub(what)


def _not_a_hub(what: str) -> LoadError:
    return CheckpointInvalid(
        f"What the server says of the {what} cannot be understood.",
        remedy="Check HF_ENDPOINT and the address.",
    )
