"""Connections under TLS: whom they trust, through which proxy, and what ends them."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import random
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import urlsplit

import certifi
import pytest
import trustme

from zerostart_jupyter.core.connections import Connections

LONG = 60.0
BODY = b"0123456789"
VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
PROXIES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


class Answering(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class Tunnel(BaseHTTPRequestHandler):
    """A proxy for CONNECT that keeps who asked for what."""

    asked: list[tuple[str, str | None]]

    def do_CONNECT(self) -> None:
        self.asked.append((self.path, self.headers.get("Proxy-Authorization")))
        host, _, port = self.path.rpartition(":")
        with socket.create_connection((host, int(port)), LONG) as there:
            self.send_response(200)
            self.end_headers()
            back = threading.Thread(target=carry, args=(there, self.connection))
            back.start()
            carry(self.connection, there)
            back.join(LONG)
        self.close_connection = True

    def log_message(self, *_: object) -> None:
        """Quiet."""


def carry(source: socket.socket, target: socket.socket) -> None:
    with contextlib.suppress(OSError):
        while some := source.recv(1 << 16):
            target.sendall(some)
        target.shutdown(socket.SHUT_WR)


class Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """A client that does not trust us hangs up; that is what some tests want."""


@contextlib.contextmanager
def running(handler: type[BaseHTTPRequestHandler], tls: ssl.SSLContext | None) -> Iterator[int]:
    server = Server(("127.0.0.1", 0), handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server.server_address[1]
    finally:
        server.shutdown()
        server.server_close()
        thread.join(LONG)


@pytest.fixture(autouse=True)
def nothing_configured(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name in (*VARIABLES, *PROXIES, *map(str.upper, PROXIES)):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture(scope="module")
def url(authority: trustme.CA) -> Iterator[str]:
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    with running(Answering, tls) as port:
        yield f"https://127.0.0.1:{port}/"


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path) -> Path:
    path = tmp_path / "ca.pem"
    authority.cert_pem.write_to_path(path)
    return path


@pytest.fixture
def pool() -> Iterator[Connections]:
    made = Connections(timeout=LONG)
    yield made
    made.close()


def body(pool: Connections, url: str) -> bytes:
    response = pool.get(url, {})
    try:
        return response.read(100)
    finally:
        response.close()


def test_a_stranger_is_not_trusted(pool: Connections, url: str) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        body(pool, url)


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_certificates_of_other_clients_count(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(trusted))
    assert body(pool, url) == BODY


def test_a_folder_of_certificates_replaces_the_systems(
    pool: Connections, url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path))
    with pytest.raises(ssl.SSLCertVerificationError):
        body(pool, url)


def test_certifi_serves_where_the_system_has_no_store(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def bare(**_: object) -> ssl.SSLContext:
        return ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)

    monkeypatch.setattr(ssl, "create_default_context", bare)
    monkeypatch.setattr(certifi, "where", lambda: str(trusted))
    assert body(pool, url) == BODY


def test_through_a_proxy_that_wants_a_password(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    monkeypatch.setattr(Tunnel, "asked", [], raising=False)
    with running(Tunnel, None) as port:
        monkeypatch.setenv("HTTPS_PROXY", f"http://ada:secret@127.0.0.1:{port}")
        assert body(pool, url) == BODY
        pool.close()
    expected = f"Basic {base64.b64encode(b'ada:secret').decode()}"
    assert Tunnel.asked == [(url.removeprefix("https://").rstrip("/"), expected)]


class Veil:
    """The front of a proxy that speaks TLS; `seen` is what the client said, as behind it."""

    def __init__(self, authority: trustme.CA, behind: int, names: str = "127.0.0.1") -> None:
        self.seen = b""
        self.port = 0
        self._behind = behind
        self._tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert(names).configure_cert(self._tls)
        self._ready = threading.Event()
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    def __enter__(self) -> Veil:
        self._thread.start()
        assert self._ready.wait(LONG)
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join(LONG)

    async def _serve(self) -> None:
        self._loop, self._over = asyncio.get_running_loop(), asyncio.Event()
        server = await asyncio.start_server(self._relay, "127.0.0.1", 0, ssl=self._tls)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._over.wait()
        server.close()

    async def _relay(self, come: asyncio.StreamReader, go: asyncio.StreamWriter) -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", self._behind)

        async def back() -> None:
            while piece := await reader.read(1 << 16):
                go.write(piece)
                await go.drain()
            go.close()

        answer = asyncio.create_task(back())
        with contextlib.suppress(OSError):
            while piece := await come.read(1 << 16):
                self.seen += piece
                writer.write(piece)
            writer.close()
            await answer


@pytest.fixture
def veiled(
    authority: trustme.CA, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[[int], Veil]]:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    with contextlib.ExitStack() as stack:

        def veil(behind: int) -> Veil:
            made = stack.enter_context(Veil(authority, behind))
            for scheme in ("HTTP", "HTTPS"):
                address = f"https://ada:secret@127.0.0.1:{made.port}"
                monkeypatch.setenv(f"{scheme}_PROXY", address)
                monkeypatch.setenv(f"{scheme.lower()}_proxy", address)
            return made

        yield veil


WORD = base64.b64encode(b"ada:secret")


def test_a_proxy_under_tls_is_told_nothing_in_clear_text(
    pool: Connections, veiled: Callable[[int], Veil]
) -> None:
    with running(Answering, None) as port:  # a proxy, as far as a GET shows
        veil = veiled(port)
        assert body(pool, "http://index.test/") == BODY
        assert body(pool, "http://index.test/") == BODY
        pool.close()
    assert veil.seen.count(b"GET http://index.test/ HTTP/1.1\r\n") == 2
    assert WORD in veil.seen


def test_what_is_secret_goes_through_a_proxy_under_tls_twice_wrapped(
    pool: Connections, veiled: Callable[[int], Veil], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tunnel, "asked", [], raising=False)
    with running(Tunnel, None) as port:
        veil = veiled(port)
        assert [body(pool, url) for _ in range(3)] == [BODY] * 3
        pool.close()
    address = url.removeprefix("https://").rstrip("/")
    assert Tunnel.asked == [(address, f"Basic {WORD.decode()}")]  # once: it is used again
    assert veil.seen.startswith(f"CONNECT {address} HTTP/1.".encode())
    assert b"GET" not in veil.seen


def test_a_lot_goes_through_it(
    pool: Connections,
    veiled: Callable[[int], Veil],
    authority: trustme.CA,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    content = random.Random(5).randbytes(8 << 20)

    class Large(Answering):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(tls)
    monkeypatch.setattr(Tunnel, "asked", [], raising=False)
    with running(Large, tls) as target, running(Tunnel, None) as port:
        veiled(port)
        with pool.get(f"https://127.0.0.1:{target}/", {"X-Long": "x" * 60_000}) as response:
            assert response.read(len(content)) == content
        pool.close()


def test_a_proxy_that_cannot_be_trusted_is_told_nothing(
    pool: Connections, url: str, authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running(Tunnel, None) as port, Veil(authority, port) as veil:
        for scheme in ("http", "https"):
            monkeypatch.setenv(f"{scheme}_proxy", f"https://ada:secret@127.0.0.1:{veil.port}")
            with pytest.raises(ssl.SSLCertVerificationError):
                body(pool, url.replace("https", scheme))
    assert veil.seen == b""


def test_abort_breaks_a_tunnel(
    pool: Connections, veiled: Callable[[int], Veil], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Tunnel, "asked", [], raising=False)
    with running(Tunnel, None) as port:
        veiled(port)
        response = pool.get(url, {})
        pool.abort()
        response.close()
        deadline = time.monotonic() + LONG
        while any(each.name == "zerostart-tunnel" for each in threading.enumerate()):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_the_ports_of_proxies_that_name_none(pool: Connections, trusted: Path) -> None:
    asked = urlsplit("https://index.test/")
    for address, port in (("http://proxy.test", 80), ("https://proxy.test", 443)):
        assert pool._connect(asked, urlsplit(address)).port == port
    assert pool._connect(urlsplit("http://index.test/"), urlsplit("https://proxy.test")).port == 443


def test_a_body_is_read_into_what_is_given(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    response = pool.get(url, {})
    room = bytearray(len(BODY))
    assert response.readinto(memoryview(room)) == len(BODY)
    assert response.readinto(memoryview(bytearray(1))) == 0
    response.close()
    assert room == BODY


def test_a_connection_cut_off_while_idle_is_opened_again(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert body(pool, url) == BODY
    (idle,) = next(iter(pool._idle.values()))

    def request(*_: object, **__: object) -> None:
        raise ssl.SSLEOFError(8, "EOF occurred in violation of protocol")

    monkeypatch.setattr(idle, "request", request)
    assert body(pool, url) == BODY
    assert idle.sock is None


def test_a_connection_that_fails_when_it_is_used_again_is_closed(
    pool: Connections, url: str, trusted: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SSL_CERT_FILE", str(trusted))
    assert body(pool, url) == BODY
    (idle,) = next(iter(pool._idle.values()))

    def request(*_: object, **__: object) -> None:
        raise TimeoutError

    monkeypatch.setattr(idle, "request", request)
    with pytest.raises(TimeoutError):
        body(pool, url)
    assert idle.sock is None
    assert not pool._busy


def test_abort_ends_what_is_still_connecting(pool: Connections) -> None:
    """The server takes the connection and never answers the handshake; then we abort."""
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        failed: list[BaseException] = []

        def ask() -> None:
            try:
                body(pool, f"https://127.0.0.1:{deaf.getsockname()[1]}/")
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=ask)
        thread.start()
        taken, _ = deaf.accept()
        pool.abort()  # perhaps before our side has its socket
        taken.close()
        thread.join(LONG)
    assert len(failed) == 1


def test_abort_passes_over_one_without_a_socket(pool: Connections) -> None:
    from http.client import HTTPConnection

    pool._busy.add(HTTPConnection("127.0.0.1"))
    pool.abort()
    pool.abort()
