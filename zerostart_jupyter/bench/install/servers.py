"""Links to measure on, and the servers that make them: each a process of its own on loopback."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_PACKAGE = __package__


@dataclass(frozen=True, slots=True)
class Link:
    """`pace`: bytes a second of each connection, 0 without limit; `trip`: seconds of a round
    trip; `cut`: bytes after which a connection is reset, HTTP/1.1 only."""

    pace: int = 0
    tls: bool = False
    trip: float = 0.0
    cut: int = 0

    def __str__(self) -> str:
        words = ["TLS + h2" if self.tls else "HTTP/1.1"]
        words += [f"{self.pace / 1e6:.0f} MB/s a connection" if self.pace else "no limit"]
        words += [f"{self.trip * 1e3:.0f} ms away"] if self.trip else []
        words += [f"reset after each {self.cut / 1e6:.0f} MB"] if self.cut else []
        return ", ".join(words)


@dataclass(frozen=True, slots=True)
class Index:
    """Where the packages are, and what a client's environment must say to get them."""

    url: str
    environ: Mapping[str, str] = field(default_factory=dict)
    log: Path | None = None

    @property
    def origin(self) -> str:
        """Scheme, host and port."""
        return self.url.removesuffix("/simple")


@contextlib.contextmanager
def served(folder: Path, link: Link) -> Iterator[Index]:
    """The index of a folder of wheels at the other end of a link."""
    with contextlib.ExitStack() as stack:
        words = [str(folder), "--rate", str(link.pace)]
        if link.tls:
            told = stack.enter_context(_process("nginx", *words))
        else:
            told = stack.enter_context(_process("paced", *words, "--cut", str(link.cut)))
        port = told["port"]
        if link.trip:
            words = [str(port), "--trip", str(link.trip), "--rate", str(link.pace)]
            port = stack.enter_context(_process("relay", *words))["port"]
        scheme = "https" if link.tls else "http"
        environ = {"SSL_CERT_FILE": told["certificate"]} if link.tls else {}
        log = Path(told["log"]) if link.tls else None
        yield Index(f"{scheme}://127.0.0.1:{port}/simple", environ, log)


@contextlib.contextmanager
def _process(module: str, *arguments: str) -> Iterator[dict[str, Any]]:
    command = [sys.executable, "-m", f"{_PACKAGE}.{module}", *arguments]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        told: dict[str, Any] = json.loads(process.stdout.readline())
        yield told
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()
