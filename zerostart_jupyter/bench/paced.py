"""A package index on loopback whose every connection has a speed limit: `python -m … FOLDER RATE`.

The limit is the kernel's own (SO_MAX_PACING_RATE), and files are sent by sendfile: the server
takes next to nothing of the cores that are being measured. Serves simple pages with hashes and
core metadata (PEP 503, 658, 714), and ranges. Ends when its standard input does.
"""

from __future__ import annotations

import hashlib
import html
import os
import re
import socket
import sys
import threading
import zipfile
from collections import defaultdict
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SO_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)


class Offer:
    """The wheels of a folder, by project."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.files = {path.name: path for path in folder.glob("*.whl")}

    @cached_property
    def pages(self) -> dict[str, bytes]:
        """One simple page a project."""
        links: dict[str, list[str]] = defaultdict(list)
        for name, path in sorted(self.files.items()):
            with open(path, "rb") as file:
                digest = hashlib.file_digest(file, "sha256").hexdigest()
            shown = html.escape(name)
            links[re.sub(r"[-_.]+", "-", name.split("-")[0]).lower()].append(
                f'<a href="/files/{shown}#sha256={digest}" data-core-metadata="true">'
                f"{shown}</a><br>"
            )
        return {
            project: f"<!DOCTYPE html><html><body>{''.join(each)}</body></html>".encode()
            for project, each in links.items()
        }

    @cached_property
    def metadata(self) -> dict[str, bytes]:
        """METADATA of each wheel."""
        found = {}
        for name, path in self.files.items():
            with zipfile.ZipFile(path) as wheel:
                (inner,) = (
                    each
                    for each in wheel.namelist()
                    if re.fullmatch(r"[^/]+\.dist-info/METADATA", each)
                )
                found[name] = wheel.read(inner)
        return found


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    offer: Offer
    rate: int

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.rate:
            self.request.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, self.rate)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        """Headers alone."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A page, a metadata file, or a file."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        kind, _, name = self.path.lstrip("/").partition("/")
        name = name.strip("/").replace("%2B", "+")
        if kind == "simple" and name in self.offer.pages:
            self._say("text/html", self.offer.pages[name], body)
        elif name.endswith(".metadata") and name.removesuffix(".metadata") in self.offer.files:
            self._say("text/plain", self.offer.metadata[name.removesuffix(".metadata")], body)
        elif name in self.offer.files:
            self._send(self.offer.files[name], body)
        else:
            self.send_response(404)
            self.send_header("Content-Length", "0")
            self.end_headers()

    def _say(self, kind: str, content: bytes, body: bool) -> None:
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if body:
            self.wfile.write(content)

    def _send(self, path: Path, body: bool) -> None:
        total = path.stat().st_size
        start, stop = 0, total
        wanted = re.fullmatch(r"bytes=(\d*)-(\d*)", self.headers.get("Range") or "")
        if wanted is not None:
            first, last = wanted.groups()
            start = int(first) if first else max(0, total - int(last))
            stop = min(int(last) + 1, total) if first and last else total
        self.send_response(206 if wanted else 200)
        self.send_header("Content-Length", str(stop - start))
        self.send_header("Accept-Ranges", "bytes")
        if wanted:
            self.send_header("Content-Range", f"bytes {start}-{stop - 1}/{total}")
        self.end_headers()
        if body:
            with open(path, "rb") as file:
                while start < stop:
                    start += os.sendfile(
                        self.connection.fileno(), file.fileno(), start, stop - start
                    )


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


def main() -> None:
    """Serve until standard input ends."""
    folder, rate = Path(sys.argv[1]), int(sys.argv[2])
    _Handler.offer, _Handler.rate = Offer(folder), rate
    _ = _Handler.offer.pages, _Handler.offer.metadata  # before anybody measures
    server = _Server(("127.0.0.1", 0), _Handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_address[1], flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
