"""A package index on loopback that misbehaves on demand."""

from __future__ import annotations

import base64
import contextlib
import gzip
import os
import re
import socket
import struct
import threading
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from tests.install.wheels import Wheel


@dataclass
class Behaviour:
    """How files are served. `answers` are given first, one a request, instead of the file."""

    ranges: bool = True
    ranges_told: bool = False  # by Accept-Ranges, without which uv asks for files as a whole
    suffix_ranges: bool = True
    ranges_served: int = 1 << 30  # answers after which ranges are ignored
    etag: str | None = '"one"'
    etags: list[str] = field(default_factory=list)  # one a request, then `etag`
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cut_after: int | None = None  # bytes of each answer, then the connection is closed
    spare_wholes: bool = False  # no cuts and no `answers` for who asks for no range, as uv does
    pace: int | None = None  # bytes a second on each connection
    gzip: bool = False
    damage: bool = False  # to what was compressed
    length: bool = True
    length_lie: int = 0  # added to Content-Length
    lies: int = 1 << 30  # answers after which the length is true
    total_lie: int = 0  # added to the total in Content-Range
    shift: int = 0  # added to the first byte that is sent
    password: str | None = None
    redirect: bool = False  # to an address of its own for each request
    redirect_uses: int = 1000  # requests that such an address is good for
    hold: threading.Event | None = None  # bodies that do not reach the file's end wait for it
    hold_from: int = 0  # bodies that begin before this byte do not wait
    stalls: int = 0  # answers of which half is sent, then nothing
    resets: int = 0  # answers of which half is sent, then the connection is reset (RST)
    content_range: str | None = None  # instead of the true one, none if empty
    multipart: bool = False  # ranges as parts of a multipart/byteranges
    true_ranges: int = 0  # answers before `content_range` and `multipart` count
    most_at_once: int | None = None  # requests; whoever comes besides is answered 503
    crowd: int = 0  # requests that wait until so many are there; later ones are not held


class Index:
    """Simple pages and files; `requests` counts what was asked for, by path."""

    def __init__(self, wheels: Iterable[Wheel] = (), *, hashes: bool = True) -> None:
        self.wheels = {wheel.filename: wheel for wheel in wheels}
        self.behaviour: dict[str, Behaviour] = {}
        self.default = Behaviour()
        self.hashes = hashes
        self.sent = 0  # bytes of files
        self.requests: Counter[str] = Counter()
        self.ranges: list[tuple[str, str | None]] = []
        self.authorizations: list[str | None] = []
        self.wrong_hash: set[str] = set()
        self.leaving = threading.Event()
        self.at_once: list[int] = []  # requests for files at once, as each came
        self.gathered = threading.Event()  # the crowd was there
        self._now = 0
        self._lock = threading.Lock()
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._server.index = self
        self._thread = threading.Thread(
            target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True
        )

    @property
    def origin(self) -> str:
        host, port = self._server.server_address[:2]
        return f"http://{host!s}:{port}"

    @property
    def url(self) -> str:
        return f"{self.origin}/simple"

    def file_url(self, wheel: Wheel) -> str:
        return f"{self.origin}/files/{wheel.filename}"

    def of(self, wheel: Wheel) -> Behaviour:
        """The behaviour of one file, which may be changed."""
        return self.behaviour.setdefault(wheel.filename, Behaviour())

    def __enter__(self) -> Index:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for behaviour in (*self.behaviour.values(), self.default):
            if behaviour.hold is not None:
                behaviour.hold.set()
        self.leaving.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()

    def count(self, path: str, wanted: str | None) -> int:
        with self._lock:
            self.requests[path] += 1
            self.ranges.append((path, wanted))
            return self.requests[path]

    @contextlib.contextmanager
    def present(self, crowd: int) -> Iterator[int]:
        """Count a request in; how many there are with it."""
        with self._lock:
            self._now += 1
            here = self._now
            self.at_once.append(here)
            if 0 < crowd <= here:
                self.gathered.set()
        try:
            if crowd:
                self.gathered.wait(20)
            yield here
        finally:
            with self._lock:
                self._now -= 1

    def add_sent(self, count: int) -> None:
        with self._lock:
            self.sent += count


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    index: Index

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no error of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer(body=False)

    def do_GET(self) -> None:
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        index = self.server.index
        number = index.count(self.path, self.headers.get("Range"))
        index.authorizations.append(self.headers.get("Authorization"))
        kind, _, name = self.path.lstrip("/").partition("/")
        if kind == "simple":
            self._page(name.strip("/"))
            return
        wheel = index.wheels.get(name)
        if wheel is None:
            self._error(404, {})
            return
        how = index.behaviour.get(name, index.default)
        alone = (self.headers.get("Range") or "").startswith("bytes=-")  # before all others
        with index.present(0 if alone else how.crowd) as here:
            if how.most_at_once is not None and here > how.most_at_once:
                self._error(503, {"Retry-After": "0"})
            else:
                self._offer(wheel, how, number, body)

    def _offer(self, wheel: Wheel, how: Behaviour, number: int, body: bool) -> None:
        index, (kind, _, name) = self.server.index, self.path.lstrip("/").partition("/")
        if how.answers and not (how.spare_wholes and self.headers.get("Range") is None):
            self._error(*how.answers.pop(0))
        elif how.password is not None and not self._knows(how.password):
            self._error(401, {"WWW-Authenticate": 'Basic realm="tests"'})
        elif how.redirect and kind == "files":
            self._error(302, {"Location": f"{index.origin}/signed-{number}/{name}"})
        elif kind != "files" and number > how.redirect_uses:
            self._error(403, {})
        else:
            self._file(wheel, how, body)

    def _knows(self, password: str) -> bool:
        token = base64.b64encode(f"user:{password}".encode()).decode()
        return self.headers.get("Authorization") == f"Basic {token}"

    def _page(self, project: str) -> None:
        index = self.server.index
        wheels = [each for each in index.wheels.values() if each.name == project]
        if not wheels:
            self._error(404, {})
            return
        links = []
        for wheel in wheels:
            digest = "0" * 64 if wheel.filename in index.wrong_hash else wheel.sha256
            mark = f"#sha256={digest}" if index.hashes else ""
            links.append(f'<a href="/files/{wheel.filename}{mark}">{wheel.filename}</a><br>')
        page = f"<!DOCTYPE html><html><body>{''.join(links)}</body></html>".encode()
        self.send_response(200)
        self.send_header("Content-Type", "text/html")
        self.send_header("Content-Length", str(len(page)))
        self.end_headers()
        self.wfile.write(page)

    def _error(self, status: int, headers: dict[str, str]) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def _file(self, wheel: Wheel, how: Behaviour, body: bool) -> None:
        data = wheel.data
        etag = how.etags.pop(0) if how.etags else how.etag
        wanted = self._wanted(len(data), how)
        condition = self.headers.get("If-Range")
        if condition is not None and condition != etag:
            wanted = None
        start, stop = wanted if wanted is not None else (0, len(data))
        shift = how.shift if start and stop < len(data) else 0
        content = data[start + shift : stop + shift]
        self.send_response(206 if wanted is not None else 200)
        if how.ranges_told:
            self.send_header("Accept-Ranges", "bytes")
        if how.gzip:
            content = gzip.compress(content)
            if how.damage:
                content = content[:10] + b"\xff" * (len(content) - 10)
            self.send_header("Content-Encoding", "gzip")
        if etag is not None:
            self.send_header("ETag", etag)
        if wanted is not None:
            total = len(data) + how.total_lie
            first = start + shift
            place = f"bytes {first}-{first + len(content) - 1}/{total}"
            odd = how.true_ranges == 0
            how.true_ranges -= not odd
            if odd and how.multipart:
                part = f"--part\r\nContent-Range: {place}\r\n\r\n".encode()
                content = part + content + b"\r\n--part--\r\n"
                self.send_header("Content-Type", "multipart/byteranges; boundary=part")
            elif not odd or how.content_range is None:
                self.send_header("Content-Range", place)
            elif how.content_range:
                self.send_header("Content-Range", how.content_range)
        if how.length:
            lie = how.length_lie if how.lies else 0
            how.lies = max(0, how.lies - 1)
            self.send_header("Content-Length", str(len(content) + lie))
            self.close_connection = self.close_connection or lie < 0
        else:
            self.send_header("Connection", "close")
            self.close_connection = True
        self.end_headers()
        if body:
            if how.hold is not None and how.hold_from <= start and stop < len(data):
                how.hold.wait(60)
            self._send(content, how, whole=wanted is None)

    def _wanted(self, total: int, how: Behaviour) -> tuple[int, int] | None:
        text = self.headers.get("Range")
        if text is None or not how.ranges:
            return None
        found = re.fullmatch(r"bytes=(\d*)-(\d*)", text)
        if found is None:
            return None
        first, last = found.groups()
        if not first:
            if not how.suffix_ranges:
                return None
            first, last = str(max(0, total - int(last))), ""
        if how.ranges_served == 0:
            return None
        how.ranges_served -= 1
        return int(first), min(int(last) + 1 if last else total, total)

    def _send(self, content: bytes, how: Behaviour, *, whole: bool) -> None:
        limit = len(content)
        if how.cut_after is not None and not (whole and how.spare_wholes):
            limit = how.cut_after
        stall, reset = how.stalls > 0, how.resets > 0
        how.stalls -= stall
        how.resets -= reset
        if stall or reset:
            limit = min(limit, len(content) // 2)
        view = memoryview(content)[:limit]
        while view:
            block = view[: 64 << 10]
            started = time.monotonic()
            with contextlib.suppress(OSError):
                self.wfile.write(block)
            self.server.index.add_sent(len(block))
            view = view[len(block) :]
            if how.pace is not None:
                time.sleep(max(0.0, len(block) / how.pace - (time.monotonic() - started)))
        if limit < len(content):
            self.close_connection = True
            if stall:
                self.server.index.leaving.wait(20)
            if reset:
                no_linger = struct.pack("ii", 1, 0)
                self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, no_linger)
                os.close(self.connection.detach())


@contextlib.contextmanager
def serving(*wheels: Wheel, hashes: bool = True) -> Iterator[Index]:
    """An index with these wheels."""
    with Index(wheels, hashes=hashes) as index:
        yield index
