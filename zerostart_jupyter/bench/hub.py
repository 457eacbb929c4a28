"""A model hub on loopback: `python -m … FOLDER --rate N --wait SECONDS`.

One repository, `bench/model`. Every connection has a speed limit, the kernel's, and every answer
comes a moment late, as if it had a way to go. Files are sent by sendfile, which takes next to
nothing of the cores that are being measured. Prints its address; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import contextlib
import hashlib
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

SO_MAX_PACING_RATE = getattr(socket, "SO_MAX_PACING_RATE", 47)  # Python names it from 3.14 on
NAME = "bench/model"
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@contextlib.contextmanager
def serving(folder: Path, *, rate: int, wait: float) -> Iterator[str]:
    """The address of a hub that has the files of a folder; `rate` in bytes a second, 0 for none."""
    command = [sys.executable, "-m", __name__, str(folder), "--rate", str(rate)]
    process = subprocess.Popen(
        [*command, "--wait", str(wait)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdin is not None
    assert process.stdout is not None
    try:
        yield process.stdout.readline().strip()
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def __init__(self, folder: Path, rate: int, wait: float) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.files = {path.name: path for path in sorted(folder.iterdir()) if path.is_file()}
        self.etags = {name: _digest(path) for name, path in self.files.items()}
        self.rate = rate
        self.wait = wait

    def handle_error(self, *_: object) -> None:
        """A client that leaves is no error."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def setup(self) -> None:
        super().setup()
        self.request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.server.rate:
            self.request.setsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE, self.server.rate)

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def do_HEAD(self) -> None:
        """What is said of a file."""
        self._answer()

    def do_GET(self) -> None:
        """A listing, or a file."""
        self._answer()

    def _answer(self) -> None:
        time.sleep(self.server.wait)
        path = self.path.partition("?")[0]
        files = self.server.files
        found = re.fullmatch(rf"/{NAME}/resolve/[^/]+/(.+)", path)
        if found is not None and found[1] in files:
            self._file(found[1], files[found[1]])
        elif re.fullmatch(rf"/api/models/{NAME}(/revision/.+)?", path):
            listed = [{"rfilename": name} for name in files]
            self._body({"id": NAME, "sha": COMMIT, "siblings": listed})
        elif re.fullmatch(rf"/api/models/{NAME}/tree/.+", path):
            self._body(
                [
                    {"type": "file", "path": name, "size": path.stat().st_size, "oid": "0" * 40}
                    for name, path in files.items()
                ]
            )
        else:
            self._head(404, {"X-Error-Code": "EntryNotFound"}, 0)

    def _body(self, content: object) -> None:
        text = json.dumps(content).encode()
        self._head(200, {"Content-Type": "application/json"}, len(text))
        if self.command == "GET":
            self.wfile.write(text)

    def _file(self, name: str, path: Path) -> None:
        total = path.stat().st_size
        wanted = re.fullmatch(r"bytes=(\d+)-(\d*)", self.headers.get("Range") or "")
        start = int(wanted[1]) if wanted else 0
        stop = min(int(wanted[2]) + 1, total) if wanted and wanted[2] else total
        headers = {"ETag": f'"{self.server.etags[name]}"', "X-Repo-Commit": COMMIT}
        if wanted:
            headers["Content-Range"] = f"bytes {start}-{stop - 1}/{total}"
        self._head(206 if wanted else 200, headers, stop - start)
        if self.command == "GET":
            with path.open("rb") as file:
                while start < stop:
                    start += os.sendfile(
                        self.connection.fileno(), file.fileno(), start, stop - start
                    )

    def _head(self, status: int, headers: Mapping[str, str], length: int) -> None:
        self.send_response(status)
        for name, value in headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(length))
        self.end_headers()


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def main() -> None:
    """Serve until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rate", type=int, default=0, help="bytes a second on each connection")
    parser.add_argument("--wait", type=float, default=0, help="seconds before each answer")
    asked = parser.parse_args()
    server = _Server(asked.folder, asked.rate, asked.wait)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(f"http://127.0.0.1:{server.server_address[1]}", flush=True)
    sys.stdin.read()


if __name__ == "__main__":
    main()
