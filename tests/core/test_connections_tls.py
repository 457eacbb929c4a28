"""Connections under TLS: whom they trust, through which proxy, and what ends them."""

from __future__ import annotations

import base64
import contextlib
import socket
import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

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
