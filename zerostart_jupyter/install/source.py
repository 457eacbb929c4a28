"""A file's bytes, by range: over HTTP with retries, or from a file on this machine.

HTTP ranges are RFC 9110 section 14. What the server says about a range is checked: a wrong
Content-Range, another total or another ETag mean that this is not the file it was.
"""

from __future__ import annotations

import contextlib
import email.utils
import http.client
import os
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install.connections import Connections, Response

T = TypeVar("T")

BLOCK = 1 << 20  # bytes read from a connection between two reports
TRIES = 6  # in a row without a single byte
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 10.0  # seconds
_MOST_PATIENCE = 120.0  # seconds of a Retry-After that are honoured
_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_TOO_MANY = frozenset({429, 503})
_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")

Report = Callable[[int, memoryview], None]


class Changed(Exception):
    """The file is not the one whose first bytes were read."""


class NoRanges(Exception):
    """The server gives the whole file or nothing."""


class Stopped(Exception):
    """The work was ended while a source waited."""


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of a file of `total` bytes, from `start` on."""

    total: int
    start: int
    data: bytes


class Source(Protocol):
    """Bytes of one file. Safe to use from several threads."""

    def tail(self, count: int) -> Tail:
        """The last `count` bytes, or all; raises NoRanges where only `spool` can serve."""

    def read(self, start: int, into: memoryview, report: Report) -> None:
        """Fill `into` from byte `start` on; `report(at, block)` is called for each block."""

    def spool(self, write: Callable[[int, memoryview], None]) -> int:
        """Write the whole file in order, return its size."""


class FileSource:
    """A file on this machine."""

    def __init__(self, path: Path) -> None:
        self._path = path

    @classmethod
    def of(cls, url: str) -> FileSource:
        """The file behind a file: URL."""
        return cls(Path(unquote(urlsplit(url).path)))

    def tail(self, count: int) -> Tail:
        """The last bytes; raises NetworkError if the file is gone, as an index's would be."""
        with self._opened() as descriptor:
            total = os.fstat(descriptor).st_size
            start = max(0, total - count)
            return Tail(total, start, os.pread(descriptor, total - start, start))

    def read(self, start: int, into: memoryview, report: Report) -> None:
        """Fill `into`; raises Changed if the file has become shorter."""
        with self._opened() as descriptor:
            done = 0
            while done < len(into):
                count = os.preadv(descriptor, [into[done : done + BLOCK]], start + done)
                if count == 0:
                    raise Changed
                report(start + done, into[done : done + count])
                done += count

    def spool(self, write: Callable[[int, memoryview], None]) -> int:
        """Never needed: a file has ranges."""
        raise NotImplementedError

    @contextlib.contextmanager
    def _opened(self) -> Iterator[int]:
        try:
            descriptor = os.open(self._path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError as error:
            raise NetworkError(
                f"{self._path} cannot be read: {error.strerror}.",
                remedy="Check the directory that find-links or the index names.",
            ) from error
        try:
            yield descriptor
        finally:
            os.close(descriptor)


class HttpSource:
    """A file behind an http or https URL.

    `stop` ends waits early. Every method raises NetworkError once retrying is of no use.
    """

    def __init__(self, connections: Connections, url: str, stop: threading.Event) -> None:
        self._connections = connections
        self._url = url
        self._final = url  # where redirects led; asked directly as long as that works
        self._stop = stop
        self._total: int | None = None
        self._validator: str | None = None
        self._whole: Response | None = None

    def tail(self, count: int) -> Tail:
        """The last bytes, and with them the size."""

        def attempt() -> Tail:
            response = self._get({"Range": f"bytes=-{count}"})
            if response.status == 200:
                self._whole = response  # already on its way: not asked for a second time
                raise NoRanges
            with response:
                start, stop, total = _range_of(response)
                if stop != total or total - start > max(count, 1):
                    raise NoRanges
                self._total = total
                self._validator = _strong_validator(response)
                data = bytearray(stop - start)
                _fill(response, memoryview(data), 0, lambda _, __: self._check())
                return Tail(total, start, bytes(data))

        return self._persist(attempt, lambda: 0)

    def read(self, start: int, into: memoryview, report: Report) -> None:
        """Fill `into`; what came before a connection broke is kept, and only the rest asked for."""
        done = 0

        def block(at: int, view: memoryview) -> None:
            nonlocal done
            self._check()
            done = at - start + len(view)
            report(at, view)

        def attempt() -> None:
            here = start + done
            headers = {"Range": f"bytes={here}-{start + len(into) - 1}"}
            if self._validator:
                headers["If-Range"] = self._validator
            with self._get(headers) as response:
                if response.status == 200:
                    raise Changed
                first, stop, total = _range_of(response)
                if total != self._total or _strong_validator(response) != self._validator:
                    raise Changed
                if first != here or stop > start + len(into):
                    raise http.client.HTTPException("another range was sent than was asked for")
                _fill(response, into[done : stop - start], here, block)
            if done < len(into):
                raise http.client.HTTPException("less was sent than was asked for")

        self._persist(attempt, lambda: done)

    def spool(self, write: Callable[[int, memoryview], None]) -> int:
        """The whole file over one connection; after a break, what is known is read over."""
        done = 0
        buffer = memoryview(bytearray(BLOCK))

        def attempt() -> int:
            nonlocal done
            here = 0
            response, self._whole = self._whole or self._get({}), None
            with response:
                for part in _decoded(response, buffer):
                    self._check()
                    fresh = part[max(0, done - here) :]
                    here += len(part)
                    if fresh:
                        write(done, fresh)
                        done += len(fresh)
            if here < done:
                raise Changed
            return done

        return self._persist(attempt, lambda: done)

    def _persist(self, attempt: Callable[[], T], progress: Callable[[], int]) -> T:
        tries = 0
        known = progress()
        while True:
            pause = None
            try:
                return attempt()
            except _Refused as refusal:
                if refusal.asked != self._url and refusal.status in (400, 401, 403, 404, 410):
                    self._final = self._url  # a redirect's address may have expired
                elif refusal.status not in _AGAIN:
                    raise self._failed(refusal) from None
                pause, error = refusal.pause, str(refusal)
            except ssl.SSLCertVerificationError as problem:
                raise self._failed(problem) from problem
            except (OSError, http.client.HTTPException) as problem:
                if isinstance(problem, NetworkError):
                    raise
                error = str(problem) or type(problem).__name__
            if progress() > known:
                known, tries = progress(), 0
            tries += 1
            if tries >= TRIES:
                raise self._failed(error)
            self._pause(tries, pause)

    def _pause(self, tries: int, wanted: float | None) -> None:
        longest = min(_LONGEST_PAUSE, _FIRST_PAUSE * 2 ** (tries - 1))
        pause = longest * random.uniform(0.5, 1.0)
        if wanted is not None:
            pause = max(pause, min(wanted, _MOST_PATIENCE))
        if self._stop.wait(pause):
            raise Stopped

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    def _get(self, headers: dict[str, str]) -> Response:
        self._check()
        asked = self._final
        courtesy = self._connections.courtesy(asked)
        courtesy.enter(self._check)
        try:
            response = self._connections.get(asked, headers)
        except BaseException:
            courtesy.leave()
            raise
        response.over = partial(courtesy.leave, refused=response.status in _TOO_MANY)
        if response.status not in (200, 206):
            with response:
                if response.status == 416:
                    raise Changed
                raise _Refused(asked, response.status, _retry_after(response))
        self._final = response.url
        return response

    def _failed(self, reason: object) -> NetworkError:
        parts = urlsplit(self._url)
        file = unquote(parts.path.rpartition("/")[2])
        host = parts.netloc.rpartition("@")[2]
        remedy = "Check the network and the proxy, and run it again: what arrived is kept."
        if isinstance(reason, _Refused) and reason.status in (401, 403, 407):
            remedy = "Put the credentials into the index address, ~/.netrc or keyring."
        elif isinstance(reason, _Refused):
            remedy = "Run it again, or ask for another version."
        elif isinstance(reason, ssl.SSLError):
            remedy = "Point SSL_CERT_FILE at the certificate authority's file."
        return NetworkError(f"{file} could not be fetched from {host}: {reason}.", remedy=remedy)


class _Refused(Exception):
    def __init__(self, asked: str, status: int, pause: float | None) -> None:
        super().__init__(f"the server answered {status} {http.client.responses.get(status, '')}")
        self.asked = asked
        self.status = status
        self.pause = pause


def _fill(response: Response, into: memoryview, start: int, report: Report) -> None:
    done = 0
    while done < len(into):
        block = into[done : done + BLOCK]
        count = 0
        try:
            while count < len(block):
                read = response.readinto(block[count:])
                if read == 0:
                    raise http.client.HTTPException("the connection ended early")
                count += read
        finally:
            if count:
                report(start + done, block[:count])
        done += count


def _decoded(response: Response, buffer: memoryview) -> Iterator[memoryview]:
    import zlib

    coding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    inflate = zlib.decompressobj(31) if coding in ("gzip", "x-gzip") else None
    if inflate is None and coding != "identity":
        raise http.client.HTTPException(f"the content coding {coding} was not asked for")
    expected = response.headers.get("Content-Length")
    received = 0
    while count := response.readinto(buffer):
        received += count
        part = buffer[:count]
        yield memoryview(inflate.decompress(part)) if inflate else part
    if expected is not None and expected.isdigit() and received < int(expected):
        raise http.client.HTTPException("the connection ended early")
    if inflate is not None and not inflate.eof:
        raise http.client.HTTPException("the connection ended early")


def _range_of(response: Response) -> tuple[int, int, int]:
    found = _CONTENT_RANGE.fullmatch((response.headers.get("Content-Range") or "").strip())
    if found is None or response.headers.get("Content-Encoding"):
        raise NoRanges
    first, last, total = map(int, found.groups())
    if not first <= last < total:
        raise NoRanges
    return first, last + 1, total


def _strong_validator(response: Response) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def _retry_after(response: Response) -> float | None:
    text = (response.headers.get("Retry-After") or "").strip()
    if text.isdigit():
        return float(text)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError):
        return None
