"""A model hub on loopback that misbehaves on demand, and a second host its files may lie on."""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import unquote, urlsplit

from tests.patience import PATIENCE

COMMIT = "c0ffee" + "0" * 34


@dataclass
class Behaviour:
    """How files' bytes are served. `answers` are given first, one a request for bytes."""

    ranges: bool = True
    etags: list[str] = field(default_factory=list)  # one a request for bytes, then the right one
    answers: list[tuple[int, dict[str, str]]] = field(default_factory=list)
    cut_after: int | None = None  # bytes of each answer, then the connection is reset
    cuts: int = 1_000_000  # answers that are cut
    stalls: int = 0  # answers of which half is sent, then nothing
    total_lie: int = 0  # added to the total in Content-Range
    hold: threading.Event | None = None  # bodies wait for it, from `hold_from` on
    hold_from: int = 0
    redirect: bool = False  # bytes come from the other host
    redirect_uses: int = 1_000_000  # requests that one such address is good for
    token: str | None = None
    refusal: tuple[int, str] | None = None  # status and X-Error-Code of every answer
    validator: bool = True  # files have an ETag
    linked: bool = True  # large files' ETags are told by X-Linked-Etag


@dataclass(frozen=True)
class Request:
    host: str
    method: str
    path: str
    headers: Mapping[str, str]


class Hub:
    """One repository, `org/tiny`, at `COMMIT`. `requests` is what was asked for."""

    def __init__(
        self,
        files: Mapping[str, bytes],
        *,
        name: str = "org/tiny",
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.files = dict(files)
        self.name = name
        self.behaviour = Behaviour()
        self.requests: list[Request] = []
        self.sent = 0  # bytes of files
        self.reached = threading.Semaphore(0)  # a body came to where it is held
        self.leaving = threading.Event()
        self._lock = threading.Lock()
        self._uses: dict[str, int] = {}
        self._tls = tls
        self._servers = [_Server(("127.0.0.1", 0), _Handler) for _ in range(2)]
        for server, host in zip(self._servers, ("hub", "cdn"), strict=True):
            server.hub, server.host = self, host
            if tls is not None:
                # The handshake belongs to a connection's own thread, not to the one that accepts.
                server.socket = tls.wrap_socket(
                    server.socket, server_side=True, do_handshake_on_connect=False
                )
        self._threads = [
            threading.Thread(target=each.serve_forever, args=(0.02,), daemon=True)
            for each in self._servers
        ]

    @property
    def url(self) -> str:
        return self._url(0)

    @property
    def cdn(self) -> str:
        return self._url(1)

    @property
    def ports(self) -> set[int]:
        return {int(each.server_address[1]) for each in self._servers}

    def _url(self, number: int) -> str:
        scheme = "https" if self._tls else "http"
        return f"{scheme}://127.0.0.1:{self._servers[number].server_address[1]}"

    def address(self, name: str) -> str:
        """A file as a plain web server has it."""
        return f"{self.cdn}/files/{name}"

    def asked(self, method: str, part: str) -> list[Request]:
        with self._lock:
            return [each for each in self.requests if each.method == method and part in each.path]

    def __enter__(self) -> Hub:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.leaving.set()
        if self.behaviour.hold is not None:
            self.behaviour.hold.set()
        for server in self._servers:
            server.shutdown()
            server.server_close()
        for thread in self._threads:
            thread.join()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    hub: Hub
    host: str

    def handle_error(self, request: object, client_address: object) -> None:
        """A client that leaves is no error of the test."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        hub, path = self.server.hub, unquote(urlsplit(self.path).path)
        with hub._lock:
            hub.requests.append(
                Request(self.server.host, self.command, self.path, dict(self.headers))
            )
        behaviour = hub.behaviour
        if behaviour.refusal is not None:
            status, code = behaviour.refusal
            return self._send(status, {"X-Error-Code": code} if code else {})
        if self.server.host == "cdn":
            return self._stored(path)
        if behaviour.token and self.headers.get("Authorization") != f"Bearer {behaviour.token}":
            return self._send(401, {"X-Error-Code": "RepoNotFound"})
        match = re.fullmatch(rf"/api/models/{hub.name}(?:/revision/(.+))?", path)
        if match is not None:
            if match[1] not in (None, "main", "v1", COMMIT):
                return self._send(404, {"X-Error-Code": "RevisionNotFound"})
            listed = [{"rfilename": name} for name in sorted(hub.files)]
            body = {"id": hub.name, "sha": COMMIT, "siblings": listed}
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(body).encode())
        match = re.fullmatch(rf"/api/models/{hub.name}/tree/(.+)", path)
        if match is not None:
            tree = [
                {"type": "file", "path": name, "size": len(data), "oid": "0" * 40}
                for name, data in sorted(hub.files.items())
            ]
            return self._send(200, {"Content-Type": "application/json"}, json.dumps(tree).encode())
        match = re.fullmatch(rf"/{hub.name}/resolve/([^/]+)/(.+)", path)
        if match is None:
            return self._send(404, {"X-Error-Code": "RepoNotFound"})
        if match[2] not in hub.files:
            return self._send(404, {"X-Error-Code": "EntryNotFound", "X-Repo-Commit": COMMIT})
        self._resolve(match[2])

    def _resolve(self, name: str) -> None:
        hub = self.server.hub
        data = hub.files[name]
        digest = f'"{sha256(data).hexdigest()}"'
        headers = {"X-Repo-Commit": COMMIT}
        if not hub.behaviour.redirect:
            return self._bytes(data, digest, headers)
        headers |= {"X-Linked-Size": str(len(data))}
        if hub.behaviour.linked:
            headers["X-Linked-Etag"] = digest
        with hub._lock:
            number = len(hub._uses)
            address = f"/signed/{number}/{name}"
            hub._uses[address] = hub.behaviour.redirect_uses
        self._send(302, {**headers, "Location": f"{hub.cdn}{address}?Signature=s{number}"})

    def _stored(self, path: str) -> None:
        hub = self.server.hub
        match = re.fullmatch(r"/(files|signed/\d+)/(.+)", path)
        if match is None or match[2] not in hub.files:
            return self._send(404, {})
        if match[1] != "files":
            with hub._lock:
                hub._uses[path] -= 1
                if hub._uses[path] < 0:
                    return self._send(403, {})
        data = hub.files[match[2]]
        self._bytes(data, f'"cdn-{sha256(data).hexdigest()[:8]}"', {})

    def _bytes(self, data: bytes, etag: str, headers: dict[str, str]) -> None:
        behaviour = self.server.hub.behaviour
        if self.command == "GET":
            with self.server.hub._lock:
                answer = behaviour.answers.pop(0) if behaviour.answers else None
                etag = behaviour.etags.pop(0) if behaviour.etags else etag
            if answer is not None:
                return self._send(*answer)
        if behaviour.validator:
            headers = {**headers, "ETag": etag}
        wanted = re.fullmatch(r"bytes=(\d+)-(\d+)", self.headers.get("Range", ""))
        same = self.headers.get("If-Range", etag) == etag
        if wanted is None or not behaviour.ranges or not same:
            return self._send(200, headers, data)
        start, stop = int(wanted[1]), min(int(wanted[2]) + 1, len(data))
        if start >= len(data):
            return self._send(416, headers)
        total = len(data) + behaviour.total_lie
        headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        self._send(206, headers, data[start:stop], start)

    def _send(
        self, status: int, headers: Mapping[str, str], body: bytes = b"", start: int = 0
    ) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command == "HEAD" or not body:
            return
        hub = self.server.hub
        if "Content-Type" in headers:
            self.wfile.write(body)
            return
        with contextlib.suppress(OSError):
            for part in self._pieces(body, start):
                self.wfile.write(part)
                with hub._lock:
                    hub.sent += len(part)
            return
        self.close_connection = True

    def _pieces(self, body: bytes, start: int) -> Iterator[bytes]:
        hub, behaviour = self.server.hub, self.server.hub.behaviour
        if behaviour.hold is not None and start + len(body) > behaviour.hold_from:
            hub.reached.release()
            behaviour.hold.wait(PATIENCE)
        with hub._lock:
            stall = behaviour.stalls > 0
            behaviour.stalls -= stall
            cut = behaviour.cut_after is not None and behaviour.cuts > 0
            cut = cut and len(body) > (behaviour.cut_after or 0)
            behaviour.cuts -= cut
        if stall:
            yield body[: len(body) // 2]
            hub.leaving.wait(PATIENCE)
            self.close_connection = True
        elif cut:
            yield body[: behaviour.cut_after]
            self.close_connection = True
            self.connection.close()
        else:
            yield body
