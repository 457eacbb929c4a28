"""A file's bytes over HTTP, by range (RFC 9110, section 14): retried, resumed, and checked to be
the same file's throughout."""

from __future__ import annotations

import email.utils
import http.client
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from typing import TypeVar

from zerostart_jupyter.core.connections import Connections, Response, shown, whole_number
from zerostart_jupyter.core.errors import (
    CheckpointChanged,
    CheckpointNotFound,
    DownloadFailed,
    LoadError,
)
from zerostart_jupyter.load.arriving import Stopped, Write

BUFFER = 1 << 20  # bytes taken from a connection at once
TRIES = 6  # in a row without a single byte
PAUSES = (0.2, 10.0)  # seconds before the second try, and at most
PATIENCE = 120.0  # seconds of a Retry-After that are honoured
BODY = 100_000_000  # bytes of an index or a listing at most

_AGAIN = frozenset({408, 425, 429, 500, 502, 503, 504})
_EXPIRED = frozenset({400, 401, 403, 404, 410})  # how a signed address says that it is too old
_CONTENT_RANGE = re.compile(r"bytes (\d{1,18})-(\d{1,18})/(\d{1,18})", re.ASCII)

T = TypeVar("T")


class Refused(Exception):
    """An answer that is no success; `hint` is what the server says of the reason."""

    def __init__(self, response: Response) -> None:
        self.status = response.status
        self.url = response.url
        self.code = response.headers.get("X-Error-Code") or ""
        self.pause = _retry_after(response.headers.get("Retry-After") or "")
        super().__init__(f"the server answered {self.status} {_reason(self.status)}".rstrip())


class Session:
    """Connections, and the patience with which they are used. `cancel()` ends all waiting."""

    def __init__(self, connections: Connections) -> None:
        self.connections = connections
        self._cancelled = threading.Event()
        self._lock = threading.Lock()
        self._users = 1

    def shared(self) -> Session:
        """This session for one more user, who closes it, too."""
        with self._lock:
            self._users += 1
        return self

    def cancel(self) -> None:
        """End what is under way, from any thread: it raises Stopped."""
        self._cancelled.set()
        self.connections.abort()

    def close(self) -> None:
        """Leave it; the last user's leaving closes the connections."""
        with self._lock:
            self._users -= 1
            last = self._users == 0
        if last:
            self.connections.close()

    def check(self) -> None:
        """Raise Stopped after `cancel()`."""
        if self._cancelled.is_set():
            raise Stopped

    def body(self, url: str, *, tries: int = TRIES) -> tuple[bytes, Response]:
        """A small answer's body. Raises LoadError, Refused."""

        def attempt() -> tuple[bytes, Response]:
            with self.connections.get(url, {}) as response:
                if response.status != 200:
                    raise Refused(response)
                return response.read(BODY), response

        return self.persist(attempt, url, most=tries)

    def head(self, url: str) -> Response:
        """What is said about a file; redirects to other hosts not followed. Raises LoadError,
        Refused."""

        def attempt() -> Response:
            with self.connections.head(url, {}) as response:
                if response.status >= 400:
                    raise Refused(response)
                return response

        return self.persist(attempt, url)

    def peek(self, url: str) -> tuple[int, Response]:
        """A file's size, by asking for its first byte: a signed address may be good for GET alone.

        Raises LoadError, Refused.
        """

        def attempt() -> tuple[int, Response]:
            with self.connections.get(url, {"Range": "bytes=0-0"}) as response:
                if response.status not in (200, 206):
                    raise Refused(response)
                found = _CONTENT_RANGE.fullmatch(response.headers.get("Content-Range") or "")
                size = found[3] if found else response.headers.get("Content-Length")
                if (known := whole_number(size)) is None:
                    raise DownloadFailed(
                        f"{shown(url)} could not be fetched: the server does not say its size.",
                        remedy="Download it in another way and load it by its path.",
                    )
                return known, response

        return self.persist(attempt, url)

    def persist(
        self,
        attempt: Callable[[], T],
        url: str,
        progress: Callable[[], int] = lambda: 0,
        *,
        most: int = TRIES,
    ) -> T:
        """What an attempt returns, tried again as long as that may help or bytes still come.

        Raises Refused for an answer that will not change, DownloadFailed when it is in vain.
        """
        tries, known = 0, progress()
        while True:
            self.check()
            pause = None
            try:
                return attempt()
            except Refused as refusal:
                if refusal.status not in _AGAIN or tries + 1 >= most:
                    raise
                pause, reason = refusal.pause, str(refusal)
            except ssl.SSLCertVerificationError as error:
                raise DownloadFailed(
                    f"{shown(url)} cannot be trusted: {error.verify_message}.",
                    remedy="Point SSL_CERT_FILE at the certificate authority's file.",
                ) from error
            except (OSError, http.client.HTTPException) as error:
                if isinstance(error, LoadError):
                    raise
                reason = str(error) or type(error).__name__
            self.check()  # a connection that was broken by `cancel` is no fault
            if progress() > known:
                known, tries = progress(), 0
            tries += 1
            if tries >= most:
                raise DownloadFailed(
                    f"{shown(url)} could not be fetched: {reason}.",
                    remedy="Check the network and the proxy, then load it again: what arrived is "
                    "kept.",
                )
            self._pause(tries, pause)

    def _pause(self, tries: int, wanted: float | None) -> None:
        pause = min(PAUSES[1], PAUSES[0] * 2 ** (tries - 1)) * random.uniform(0.5, 1.0)
        if wanted is not None:
            pause = max(pause, min(wanted, PATIENCE))
        if self._cancelled.wait(pause):
            raise Stopped


class HttpFile:
    """An Origin: one file of known size behind an address.

    `etag` is the strong validator that answers must carry, where the address that is asked
    itself named one; what another host answers is held to what that host said first.
    """

    def __init__(self, session: Session, url: str, size: int, etag: str | None = None) -> None:
        self.shown = shown(url)
        self._session = session.shared()
        self._url = url
        self._final = url  # where redirects led; asked directly as long as that works
        self._size = size
        self._known = {True: etag} if etag else {}  # validators: our address's, and the other's
        self._lock = threading.Lock()
        self._stream: _Stream | None = None

    def read(self, start: int, stop: int, write: Write) -> None:
        """Give these bytes; after a break only what is left is asked for."""
        done = start

        def attempt() -> None:
            nonlocal done
            if self._stream is not None:
                return
            with self._asked(done, stop) as response:
                if response.status == 200:
                    self._give_up_ranges()
                    return
                for part in _parts(response, stop - done):
                    self._session.check()
                    write(done, part)
                    done += len(part)

        self._persist(attempt, lambda: done)
        if self._stream is not None and done < stop:
            self._stream.read(stop, write)

    def stop(self) -> None:
        """Break the connections."""
        self._session.cancel()

    def close(self) -> None:
        """Give up the stream, if there is one, and this share of the session."""
        if self._stream is not None:
            self._stream.close()
        self._session.close()

    @contextmanager
    def _asked(self, start: int, stop: int | None) -> Iterator[Response]:
        asked = self._final
        headers = {} if stop is None else {"Range": f"bytes={start}-{stop - 1}"}
        known = self._known.get(False) or self._known.get(True)
        if known and stop is not None:
            headers["If-Range"] = known
        with self._session.connections.get(asked, headers) as response:
            if response.status == 416:
                raise self._changed()
            if response.status not in (200, 206):
                if asked != self._url and response.status in _EXPIRED:
                    self._final = self._url
                    raise http.client.HTTPException("a redirect's address has expired")
                raise Refused(response)
            self._verify(response, start, stop)
            self._final = response.url
            yield response

    def _verify(self, response: Response, start: int, stop: int | None) -> None:
        validator = strong_validator(response)
        if validator and self._known.setdefault(response.url == self._url, validator) != validator:
            raise self._changed()
        if response.headers.get("Content-Encoding", "identity") != "identity":
            raise self._odd("it was compressed on the way")
        if response.status == 200:
            if whole_number(response.headers.get("Content-Length")) not in (None, self._size):
                raise self._changed()
            return
        found = _CONTENT_RANGE.fullmatch((response.headers.get("Content-Range") or "").strip())
        if found is None:
            raise self._odd("the answer does not say which bytes it has")
        first, last, total = map(int, found.groups())
        if total != self._size:
            raise self._changed()
        if stop is None or first != start or last >= stop or last < first:
            raise http.client.HTTPException("other bytes were sent than were asked for")

    def _give_up_ranges(self) -> None:
        with self._lock:
            if self._stream is None:
                self._stream = _Stream(self, self._size)

    def _persist(self, attempt: Callable[[], None], progress: Callable[[], int]) -> None:
        try:
            self._session.persist(attempt, self._url, progress)
        except Refused as refusal:
            raise refusal_error(refusal, self.shown) from refusal

    def _changed(self) -> CheckpointChanged:
        return CheckpointChanged(
            f"{self.shown} changed on the server while it was being fetched.",
            remedy="Load it again.",
        )

    def _odd(self, reason: str) -> DownloadFailed:
        return DownloadFailed(
            f"{self.shown} could not be fetched: {reason}.",
            remedy="Download it in another way and load it by its path.",
        )


class _Stream:
    """The whole file over one connection, from a server that has no ranges.

    Whoever needs bytes reads on to there; after a break it begins again and passes over what is
    known.
    """

    def __init__(self, file: HttpFile, size: int) -> None:
        self._file = file
        self._size = size
        self._lock = threading.Lock()
        self._here = 0  # of the file's bytes, those given to `write`
        self._open: Generator[memoryview, None, None] | None = None

    def read(self, stop: int, write: Write) -> None:
        """Write on until byte `stop` is there."""

        def attempt() -> None:
            if self._open is None:
                self._open = self._begin()
            while self._here < stop:
                self._file._session.check()
                try:
                    part = next(self._open)
                except BaseException as error:
                    self._open = None
                    if isinstance(error, StopIteration):
                        raise http.client.HTTPException("the connection ended early") from None
                    raise
                write(self._here, part)
                self._here += len(part)

        with self._lock:
            self._file._persist(attempt, lambda: self._here)

    def close(self) -> None:
        """Give up the connection."""
        with self._lock:
            if self._open is not None:
                self._open.close()
                self._open = None

    def _begin(self) -> Generator[memoryview, None, None]:
        known, at = self._here, 0
        with self._file._asked(0, None) as response:
            for part in _parts(response, self._size):
                fresh = part[max(0, known - at) :]
                at += len(part)
                if fresh:
                    yield fresh


def refusal_error(refusal: Refused, what: str) -> LoadError:
    """One line for an answer that will not change. Codes: huggingface_hub's X-Error-Code."""
    if refusal.code == "GatedRepo":
        return DownloadFailed(
            f"{what} is gated: its owner has not given you access.",
            remedy="Ask for it on the model's page, and log in with `hf auth login` or HF_TOKEN.",
        )
    if refusal.status == 401 or refusal.code == "RepoNotFound":
        return DownloadFailed(
            f"{what} does not exist, or is private: {refusal}.",
            remedy="Check the name; for a private one log in: `hf auth login`, HF_TOKEN, or "
            "~/.netrc for other hosts.",
        )
    if refusal.status == 403:
        return DownloadFailed(
            f"{what} may not be read: {refusal}.",
            remedy="Ask its owner for access, or use a token that has it.",
        )
    if refusal.status in (404, 410):
        return CheckpointNotFound(
            f"There is no {what}: {refusal}.", remedy="Check the name and the revision."
        )
    return DownloadFailed(f"{what} could not be fetched: {refusal}.", remedy="Try again later.")


def _parts(response: Response, count: int) -> Iterator[memoryview]:
    buffer = memoryview(bytearray(min(BUFFER, max(count, 1))))
    while count > 0:
        got = response.readinto(buffer[:count])
        if got == 0:
            raise http.client.HTTPException("the connection ended early")
        count -= got
        yield buffer[:got]


def strong_validator(response: Response) -> str | None:
    """The ETag, if equal ones mean equal bytes."""
    etag = response.headers.get("ETag")
    return etag if etag and not etag.startswith("W/") else None


def _reason(status: int) -> str:
    return http.client.responses.get(status, "")


def _retry_after(text: str) -> float | None:
    seconds = whole_number(text)
    if seconds is not None:
        return float(seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return None
