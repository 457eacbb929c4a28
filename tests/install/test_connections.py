from __future__ import annotations

import base64
import http.client
import http.server
import socket
import ssl
import subprocess
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from tests.install.wheels import Wheel, make, noise
from tests.servers.index import Index, serving
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import retries, source
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.indexes import Indexes

WHEEL = make("zs-conn", files={"zs_conn.py": noise(5000)})


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def index() -> Iterator[Index]:
    with serving(WHEEL) as running:
        yield running


def fetch(url: str, indexes: Indexes, wheel: Wheel = WHEEL) -> bytes:
    connections = Connections(indexes, 5)
    try:
        tail = source.HttpSource(connections, url, threading.Event()).tail(len(wheel.data))
        return tail.data
    finally:
        connections.close()


class _Proxy(http.server.BaseHTTPRequestHandler):
    """Forwards what it is asked, plainly or through a tunnel, for who knows the password."""

    protocol_version = "HTTP/1.1"
    seen: list[str]

    def log_message(self, *_: object) -> None:
        """Quiet."""

    def _known(self) -> bool:
        token = base64.b64encode(b"me:pass").decode()
        if self.headers.get("Proxy-Authorization") == f"Basic {token}":
            return True
        self.send_error(407)
        return False

    def do_GET(self) -> None:
        if not self._known():
            return
        self.seen.append(self.path)
        parts = urlsplit(self.path)
        upstream = http.client.HTTPConnection(parts.netloc, timeout=5)
        kept = {name: self.headers[name] for name in ("Range",) if name in self.headers}
        upstream.request("GET", parts.path, headers=kept)
        answer = upstream.getresponse()
        body = answer.read()
        upstream.close()
        self.send_response(answer.status)
        for name in ("Content-Range", "Content-Length", "ETag"):
            if answer.headers[name]:
                self.send_header(name, answer.headers[name])
        self.end_headers()
        self.wfile.write(body)

    def do_CONNECT(self) -> None:
        if not self._known():
            return
        self.seen.append(self.path)
        host, _, port = self.path.partition(":")
        upstream = socket.create_connection((host, int(port)), timeout=5)
        self.send_response(200)
        self.end_headers()

        def pump(a: socket.socket, b: socket.socket) -> None:
            try:
                while data := a.recv(65536):
                    b.sendall(data)
                b.shutdown(socket.SHUT_WR)
            except OSError:
                pass

        other = threading.Thread(target=pump, args=(upstream, self.connection))
        other.start()
        pump(self.connection, upstream)
        other.join()
        upstream.close()
        self.close_connection = True


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Proxy", (_Proxy,), {"seen": seen})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
    thread.start()
    yield f"http://me:pass@127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()
    thread.join()


def test_connections_are_used_again(index: Index) -> None:
    made = []

    class Counting(Connections):
        def _connect(self, *args: object) -> http.client.HTTPConnection:
            made.append(1)
            return super()._connect(*args)  # type: ignore[arg-type]

    connections = Counting(Indexes(), 5)
    file = source.HttpSource(connections, index.file_url(WHEEL), threading.Event())
    file.tail(1000)
    for start in range(0, 3000, 1000):
        into = memoryview(bytearray(1000))
        file.read(start, into, lambda _, __: None)
        assert bytes(into) == WHEEL.data[start : start + 1000]
    connections.close()
    assert len(made) == 1


def test_a_proxy_is_asked(
    index: Index, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = proxy
    monkeypatch.setenv("http_proxy", url)
    assert fetch(index.file_url(WHEEL), Indexes()) == WHEEL.data
    assert seen == [index.file_url(WHEEL)]
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    assert fetch(index.file_url(WHEEL), Indexes()) == WHEEL.data
    assert len(seen) == 1


def test_pips_proxy_is_asked_too(index: Index, proxy: tuple[str, list[str]]) -> None:
    url, seen = proxy
    assert fetch(index.file_url(WHEEL), Indexes(proxy=url)) == WHEEL.data
    assert len(seen) == 1


def test_a_proxy_that_wants_a_password_says_so(index: Index, proxy: tuple[str, list[str]]) -> None:
    url = proxy[0].replace("me:pass@", "")
    with pytest.raises(NetworkError, match="407") as caught:
        fetch(index.file_url(WHEEL), Indexes(proxy=url))
    assert "credentials" in caught.value.remedy


@pytest.mark.parametrize("known", ["", "me:s3cr3t@"])
def test_a_tunnel_that_is_refused_is_not_asked_for_again(
    known: str, index: Index, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 1e6)
    url = proxy[0].replace("me:pass@", known)
    with pytest.raises(NetworkError, match="407") as caught:
        fetch(index.file_url(WHEEL).replace("http:", "https:"), Indexes(proxy=url))
    assert "the proxy's credentials" in caught.value.remedy
    assert "s3cr3t" not in f"{caught.value} {caught.value.__context__}"


@pytest.fixture(scope="session")
def certificate(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tls")
    command = "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=localhost"
    subprocess.run(
        [
            *command.split(),
            *("-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(folder / "key.pem"), "-out", str(folder / "cert.pem")),
        ],
        check=True,
        capture_output=True,
        timeout=60,
    )
    return folder


@pytest.fixture
def secure(index: Index, certificate: Path) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate / "cert.pem", certificate / "key.pem")
    server = index._server
    server.socket = context.wrap_socket(server.socket, server_side=True)
    return index.file_url(WHEEL).replace("http://", "https://")


def test_a_private_authority_is_trusted_by_its_file(secure: str, certificate: Path) -> None:
    trusting = Indexes(certificate=str(certificate / "cert.pem"))
    assert fetch(secure, trusting) == WHEEL.data


def test_an_unknown_authority_is_refused_with_its_remedy(secure: str) -> None:
    with pytest.raises(NetworkError, match="CERTIFICATE_VERIFY_FAILED") as caught:
        fetch(secure, Indexes())
    assert "SSL_CERT_FILE" in caught.value.remedy


def test_a_trusted_host_needs_none(secure: str) -> None:
    assert fetch(secure, Indexes(trusted_hosts=frozenset({"127.0.0.1"}))) == WHEEL.data


def test_tls_goes_through_a_tunnel(
    secure: str, certificate: Path, proxy: tuple[str, list[str]]
) -> None:
    url, seen = proxy
    trusting = Indexes(certificate=str(certificate / "cert.pem"), proxy=url)
    assert fetch(secure, trusting) == WHEEL.data
    assert seen == [urlsplit(secure).netloc]


def test_certificates_that_cannot_be_read_are_named(secure: str, tmp_path: Path) -> None:
    (tmp_path / "ca.pem").write_text("not a certificate")
    with pytest.raises(NetworkError, match=r"ca\.pem"):
        fetch(secure, Indexes(certificate=str(tmp_path / "ca.pem")))


def test_keyring_is_asked_when_nothing_else_helps(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.of(WHEEL).password = "from-keyring"
    program = tmp_path / "keyring"
    program.write_text('#!/bin/sh\n[ "$1 $3" = "get user" ] && echo from-keyring\n')
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    url = index.file_url(WHEEL).replace("://", "://user@")
    indexes = Indexes(keyring=True, urls=(url,))
    assert fetch(index.file_url(WHEEL), indexes) == WHEEL.data
    with pytest.raises(NetworkError, match="401"):
        fetch(index.file_url(WHEEL), Indexes(urls=(url,)))


def test_keyring_is_asked_once_whoever_waits_for_it(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.of(WHEEL).password = "from-keyring"
    program = tmp_path / "keyring"
    program.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n'
        f'[ "$2 $3" = "{urlsplit(index.url).netloc} user" ] && echo from-keyring\n'
    )
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    simple = index.url.replace("://", "://user@")
    connections = Connections(Indexes(keyring=True, urls=(simple,)), 5)
    with ThreadPoolExecutor(8) as threads:
        answers = list(threads.map(lambda _: connections.get(index.file_url(WHEEL), {}), range(16)))
    assert [answer.status for answer in answers] == [200] * 16
    for answer in answers:
        answer.close()
    connections.close()
    # the index's address, as pip asks; scheme and host; host and port, as uv asks
    asked = (tmp_path / "asked").read_text().splitlines()
    assert asked == [
        f"get {index.url} user",
        f"get {index.origin} user",
        f"get {urlsplit(index.url).netloc} user",
    ]


def test_a_keyring_that_fails_is_one_that_knows_nothing(
    index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.of(WHEEL).password = "from-keyring"
    (tmp_path / "keyring").write_text("not a program")
    (tmp_path / "keyring").chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NetworkError, match="401"):
        fetch(index.file_url(WHEEL), Indexes(keyring=True))


def test_of_two_indexes_on_one_host_the_nearer_one_says_who_asks(index: Index) -> None:
    index.of(WHEEL).password = "right"
    far = f"{index.origin}/elsewhere/simple".replace("://", "://user:wrong@")
    near = f"{index.origin}/files/simple".replace("://", "://user:right@")
    for urls in ((far, near), (near, far)):
        assert fetch(index.file_url(WHEEL), Indexes(urls=urls)) == WHEEL.data


def test_credentials_do_not_follow_a_redirect_to_another_host(index: Index) -> None:
    with serving(WHEEL) as other:
        index.of(WHEEL).answers = [(302, {"Location": other.file_url(WHEEL)})]
        own = index.url.replace("://", "://user:secret@")
        assert fetch(index.file_url(WHEEL), Indexes(urls=(own,))) == WHEEL.data
        assert index.authorizations != [None]
        assert other.authorizations == [None]


def test_only_http_is_spoken(index: Index) -> None:
    with pytest.raises(NetworkError, match="not http"):
        fetch("ftp://127.0.0.1/x", Indexes())


def test_endless_redirects_end(index: Index) -> None:
    url = index.file_url(WHEEL)
    index.of(WHEEL).answers = [(302, {"Location": url})] * 1000
    with pytest.raises(NetworkError, match="redirects"):
        fetch(url, Indexes())
