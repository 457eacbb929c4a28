from __future__ import annotations

import hashlib
import http.client
import re
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from urllib.parse import urlsplit

import pytest

from tests.install.wheels import Wheel
from zerostart_jupyter.bench.install import nginx
from zerostart_jupyter.bench.install.pacing import SO_MAX_PACING_RATE, listening
from zerostart_jupyter.bench.install.servers import Index, Link, served
from zerostart_jupyter.bench.install.wheels import Fetched

needs_nginx = pytest.mark.skipif(
    not nginx.capability(), reason=nginx.capability().reason + " " + nginx.capability().remedy
)
BOTH = [Link(), pytest.param(Link(tls=True), marks=needs_nginx)]


@pytest.fixture(params=BOTH, ids=str)
def index(request: pytest.FixtureRequest, fetched: Fetched) -> Iterator[Index]:
    with served(fetched.folder, request.param) as found:
        yield found


def context(index: Index) -> ssl.SSLContext | None:
    certificate = index.environ.get("SSL_CERT_FILE")
    return ssl.create_default_context(cafile=certificate) if certificate else None


def ask(index: Index, path: str, **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
    request = urllib.request.Request(index.origin + path, headers=headers)
    with urllib.request.urlopen(request, context=context(index), timeout=60) as response:
        return response.status, response.headers, response.read()


class TestIndex:
    def test_a_page_names_its_wheels_with_their_digests(
        self, index: Index, wheels: list[Wheel]
    ) -> None:
        _, headers, page = ask(index, "/simple/bench-one/")
        assert headers.get_content_type() == "text/html"
        (link,) = re.findall(r'href="([^"]+)"', page.decode())
        path, _, digest = link.partition("#sha256=")
        assert digest == wheels[0].sha256
        assert hashlib.sha256(ask(index, path)[2]).hexdigest() == digest

    def test_metadata_is_beside_each_wheel(self, index: Index, wheels: list[Wheel]) -> None:
        _, _, metadata = ask(index, f"/files/{wheels[1].filename}.metadata")
        assert b"Requires-Dist: bench-one" in metadata

    @pytest.mark.parametrize(
        ("asked", "part"),
        [
            ("0-99", slice(0, 100)),
            ("1000-", slice(1000, None)),
            ("-50", slice(-50, None)),
            ("5-999999999", slice(5, None)),
        ],
    )
    def test_ranges(self, index: Index, wheels: list[Wheel], asked: str, part: slice) -> None:
        wheel = wheels[0]
        status, headers, body = ask(index, f"/files/{wheel.filename}", Range=f"bytes={asked}")
        assert (status, body) == (206, wheel.data[part])
        first = range(len(wheel.data))[part][0]
        assert headers["Content-Range"] == (
            f"bytes {first}-{first + len(body) - 1}/{len(wheel.data)}"
        )

    def test_what_is_not_there(self, index: Index) -> None:
        for path in ("/simple/other/", "/files/other-1.0-py3-none-any.whl"):
            with pytest.raises(urllib.error.HTTPError) as refused:
                ask(index, path)
            assert refused.value.code == 404
            refused.value.close()


@needs_nginx
def test_http2_is_offered_and_taken(fetched: Fetched) -> None:
    with served(fetched.folder, Link(tls=True)) as index:
        offering = context(index)
        assert offering is not None
        offering.set_alpn_protocols(["h2", "http/1.1"])
        parts = urlsplit(index.url)
        with (
            socket.create_connection((parts.hostname, parts.port), timeout=60) as plain,
            offering.wrap_socket(plain, server_hostname=parts.hostname) as secure,
        ):
            assert secure.selected_alpn_protocol() == "h2"


@needs_nginx
def test_the_certificate_is_known_to_nobody_else(fetched: Fetched) -> None:
    with (
        served(fetched.folder, Link(tls=True)) as index,
        pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"),
    ):
        urllib.request.urlopen(index.url, timeout=60, context=ssl.create_default_context())


@pytest.mark.parametrize("rate", [0, 25_000_000])
def test_each_connection_inherits_the_pace(rate: int) -> None:
    with listening(rate) as made:
        unpaced = made.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE)
        assert (unpaced == rate) == bool(rate)
        with (
            socket.create_connection(made.getsockname(), timeout=60),
            made.accept()[0] as accepted,
        ):
            assert accepted.getsockopt(socket.SOL_SOCKET, SO_MAX_PACING_RATE) == unpaced


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=needs_nginx)])
def test_a_longer_way_takes_its_round_trips(
    fetched: Fetched, wheels: list[Wheel], tls: bool
) -> None:
    trip = 0.1
    with served(fetched.folder, Link(tls=tls, trip=trip)) as index:
        began = time.monotonic()
        body = ask(index, f"/files/{wheels[0].filename}")[2]
        took = time.monotonic() - began
    assert body == wheels[0].data
    assert took > 0.99 * (3 if tls else 2) * trip, "one to open, one of TLS 1.3, one to answer"


def test_a_connection_is_reset_after_so_many_bytes(fetched: Fetched, wheels: list[Wheel]) -> None:
    cut, path = 100_000, f"/files/{wheels[0].filename}"
    with served(fetched.folder, Link(cut=cut)) as index:
        assert len(ask(index, path, Range=f"bytes=0-{cut - 2}")[2]) == cut - 1
        with pytest.raises(ConnectionResetError):
            ask(index, path)


def test_links_say_what_they_are() -> None:
    assert str(Link()) == "HTTP/1.1, no limit"
    assert str(Link(25_000_000, tls=True, trip=0.02)) == (
        "TLS + h2, 25 MB/s a connection, 20 ms away"
    )
    assert str(Link(cut=60_000_000)).endswith("reset after each 60 MB")


def test_without_nginx_it_is_said_what_to_do(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(nginx, "found", lambda program: None)
    possible = nginx.capability()
    assert not possible
    assert "apt install nginx-light" in possible.remedy
    assert nginx.version() == "absent"
