"""A file's bytes, by range: over HTTP with retries, or from a file on this machine.

HTTP ranges are RFC 9110 section 14. What the server says about a range is checked: a wrong
Content-Range, another total or another ETag mean that this is not the file it was.
"""

from __future__ import annotations

import contextlib
import http.client
import os
import re
import ssl
import threading
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, TypeVar
from urllib.parse import unquote, urlsplit

from zerostart_jupyter.core.connections import Response, host_of, whole_number
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install.archive import inflated
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.retries import Refused, Stopped, persist, refusal_of

BLOCK = 1 << 20  # bytes read from a connection between two reports
_DOUBTS = 2  # times that ranges of a file may contradict each other before it is had as a whole
_TOO_MANY = frozenset({429, 503})
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)

T = TypeVar("T")
Report = Callable[[int, memoryview], None]


class Changed(Exception):
    """The file is not the one whose first bytes were read."""


class NoRanges(Exception):
    """The server gives the whole file or nothing: `whole` is how to have it."""

    def __init__(self, whole: Whole) -> None:
        super().__init__("there are no ranges")
        self.whole = whole


@dataclass(frozen=True, slots=True)
class Tail:
    """The last bytes of a file of `total` bytes, from `start` on."""

    total: int
    start: int
    data: bytes


class Source(Protocol):
    """Bytes of one file, by range. Safe to use from several threads."""

    def tail(self, count: int) -> Tail:
        """The last `count` bytes, or all. Raises NoRanges."""

    def read(self, start: int, into: memoryview, report: Report) -> None:
        """Fill `into` from byte `start` on; `report(at, block)` is called for each block.

        Raises Changed or NoRanges.
        """


class Whole(Protocol):
    """Bytes of one file that come in order only."""

    def spool(self, write: Report) -> int:
        """Write the whole file in order, return its size. Raises Changed."""


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
        self._doubted = False
        self._begun: tuple[Response, contextlib.ExitStack] | None = None

    def tail(self, count: int) -> Tail:
        """The last bytes, and with them the size."""

        def attempt() -> Tail:
            with contextlib.ExitStack() as stack:
                response = stack.enter_context(self._asked({"Range": f"bytes=-{count}"}))
                if response.status == 200:  # already on its way: not asked for a second time
                    self._begun = response, stack.pop_all()
                    raise NoRanges(self)
                start, stop, total = self._range(response)
                if stop != total or total - start > max(count, 1):
                    raise NoRanges(self)
                self._total = total
                self._validator = _strong_validator(response)
                data = bytearray(stop - start)
                _fill(response, memoryview(data), 0, lambda _, __: self._check())
                return Tail(total, start, bytes(data))

        if self._connections.doubts[self._url] >= _DOUBTS:
            raise NoRanges(self)
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
            with self._asked(headers) as response:
                if response.status == 200:
                    length = response.headers.get("Content-Length")
                    same = length == str(self._total)
                    same = same and _strong_validator(response) == self._validator
                    raise NoRanges(self) if same else Changed
                first, stop, total = self._range(response)
                if total != self._total or _strong_validator(response) != self._validator:
                    raise Changed
                if first != here or stop > start + len(into):
                    raise http.client.HTTPException("another range was sent than was asked for")
                _fill(response, into[done : stop - start], here, block)
            if done < len(into):
                raise http.client.HTTPException("less was sent than was asked for")

        try:
            self._persist(attempt, lambda: done)
        except (Changed, NoRanges) as trouble:
            if not self._doubted:  # many threads may be told at once
                self._doubted = True
                severe = isinstance(trouble, NoRanges)
                self._connections.doubts[self._url] += _DOUBTS if severe else 1
            raise

    def spool(self, write: Report) -> int:
        """The whole file over one connection; after a break, what is known is read over."""
        done = 0
        validator: str | None = None
        buffer = memoryview(bytearray(BLOCK))

        def attempt() -> int:
            nonlocal done, validator
            here = 0
            with contextlib.ExitStack() as stack:
                response = self._from_the_start(stack)
                if done and _strong_validator(response) != validator:
                    raise Changed
                validator = _strong_validator(response)
                for part in _decoded(response, buffer, self._failed):
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

    def _from_the_start(self, stack: contextlib.ExitStack) -> Response:
        begun, self._begun = self._begun, None
        if begun is None:
            return stack.enter_context(self._asked({}))
        stack.push(begun[1])
        return begun[0]

    def _persist(self, attempt: Callable[[], T], progress: Callable[[], int]) -> T:
        def forgive(refusal: Refused) -> bool:
            expired = refusal.asked != self._url and refusal.status in (400, 401, 403, 404, 410)
            if expired:
                self._final = self._url  # where a redirect led may be good for a while only
            return expired

        return persist(attempt, progress, self._stop, forgive, self._failed)

    def _check(self) -> None:
        if self._stop.is_set():
            raise Stopped

    @contextlib.contextmanager
    def _asked(self, headers: dict[str, str]) -> Iterator[Response]:
        self._check()
        asked = self._final
        courtesy = self._connections.courtesy(asked)
        courtesy.enter(self._check)
        refused = False
        try:
            with self._connections.get(asked, headers) as response:
                refused = response.status in _TOO_MANY
                if response.status == 416:
                    raise Changed
                if response.status not in (200, 206):
                    raise refusal_of(asked, response)
                self._final = response.url
                yield response
        finally:
            courtesy.leave(refused=refused)

    def _range(self, response: Response) -> tuple[int, int, int]:
        """First byte, stop and total of what is being sent, if that can be believed."""
        found = _CONTENT_RANGE.fullmatch((response.headers.get("Content-Range") or "").strip())
        if found is None or response.headers.get("Content-Encoding"):
            raise NoRanges(self)
        first, last, total = map(int, found.groups())
        length = response.headers.get("Content-Length")
        if not first <= last < total or (length is not None and length != str(last + 1 - first)):
            raise NoRanges(self)
        return first, last + 1, total

    def _failed(self, reason: object) -> NetworkError:
        parts = urlsplit(self._url)
        file = unquote(parts.path.rpartition("/")[2])
        remedy = "Check the network and the proxy, and run it again: what arrived is kept."
        if isinstance(reason, Refused) and reason.status in (401, 403):
            remedy = "Put the credentials into the index address, ~/.netrc or keyring."
        elif isinstance(reason, Refused) and reason.status == 407:
            remedy = "Put the proxy's credentials into its address: http://user:password@host:port."
        elif isinstance(reason, Refused):
            remedy = "Run it again, or ask for another version."
        elif isinstance(reason, ssl.SSLError):
            remedy = "Point SSL_CERT_FILE at the certificate authority's file."
        return NetworkError(
            f"{file} could not be fetched from {host_of(parts)}: {reason}.", remedy=remedy
        )


def source_of(connections: Connections, url: str, stop: threading.Event) -> Source:
    """Where the bytes behind a URL come from."""
    if url.startswith("file:"):
        return FileSource.of(url)
    return HttpSource(connections, url, stop)


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


def _decoded(
    response: Response, buffer: memoryview, failed: Callable[[object], NetworkError]
) -> Iterator[memoryview]:
    coding = (response.headers.get("Content-Encoding") or "identity").strip().lower()
    inflate = zlib.decompressobj(31) if coding in ("gzip", "x-gzip") else None
    if inflate is None and coding != "identity":
        raise http.client.HTTPException(f"the content coding {coding} was not asked for")
    expected = whole_number(response.headers.get("Content-Length"))
    received = given = 0
    while count := response.readinto(buffer):
        received += count
        part = buffer[:count]
        if inflate is None:
            yield part
            continue
        bite: bytes | memoryview = part
        while content := _inflated(inflate, bite):
            given += len(content)
            if inflated(received, given):
                raise failed(f"its content coding makes {received} bytes into {given} and more")
            yield memoryview(content)
            bite = inflate.unconsumed_tail
    if expected is not None and received < expected:
        raise http.client.HTTPException("the connection ended early")
    if inflate is not None and not inflate.eof:
        raise http.client.HTTPException("the connection ended early")


def _inflated(inflate: zlib._Decompress, bite: bytes | memoryview) -> bytes:
    try:
        return inflate.decompress(bite, BLOCK)
    except zlib.error as error:
        raise http.client.HTTPException(f"its content coding is damaged: {error}") from error


def _strong_validator(response: Response) -> str | None:
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None
