"""An index on loopback that speaks HTTP/1.1: `python -m … --rate N --cut N FOLDER`.

Files are sent by sendfile: the server takes next to nothing of the cores that are being measured.
Serves ranges. Prints its address as JSON; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import socket
import struct
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from zerostart_jupyter.bench.install.offer import Offer
from zerostart_jupyter.bench.install.pacing import listening

_AT_ONCE = struct.pack("ii", 1, 0)  # SO_LINGER: close with a reset


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.left = self.server.cut or None

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        """Headers alone."""
        self._answer(body=False)

    def do_GET(self) -> None:
        """A page, a metadata file, or a file."""
        self._answer(body=True)

    def _answer(self, *, body: bool) -> None:
        offer = self.server.offer
        kind, _, name = self.path.lstrip("/").partition("/")
        name = name.strip("/").replace("%2B", "+")
        if kind == "simple" and name in offer.pages:
            self._say("text/html", offer.pages[name], body)
        elif name.endswith(".metadata") and name.removesuffix(".metadata") in offer.files:
            self._say("text/plain", offer.metadata[name.removesuffix(".metadata")], body)
        elif name in offer.files:
            self._send(offer.files[name], body)
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
            self._copy(path, start, stop)

    def _copy(self, path: Path, start: int, stop: int) -> None:
        with open(path, "rb") as file:
            while start < stop:
                count = stop - start if self.left is None else min(stop - start, self.left)
                sent = os.sendfile(self.connection.fileno(), file.fileno(), start, count)
                start += sent
                if self.left is not None:
                    self.left -= sent
                    if not self.left:
                        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                        raise ConnectionResetError


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def __init__(self, offer: Offer, rate: int, cut: int) -> None:
        super().__init__(("127.0.0.1", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listening(rate)
        self.server_address = self.socket.getsockname()
        self.offer = offer
        self.cut = cut

    def shutdown_request(self, request: socket.socket | tuple[bytes, socket.socket]) -> None:
        """Close without the shutdown that would turn a reset into an ordinary end."""
        assert isinstance(request, socket.socket)
        self.close_request(request)

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second on each connection")
    parser.add_argument("--cut", type=int, default=0, help="reset each connection after N bytes")
    asked = parser.parse_args()
    offer = Offer(asked.folder)
    _ = offer.pages, offer.metadata  # before anybody measures
    server = _Server(offer, asked.rate, asked.cut)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(json.dumps({"port": server.server_address[1]}), flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
