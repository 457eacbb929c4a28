from __future__ import annotations

import http.client
import threading
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from tests.patience import PATIENCE
from zerostart_jupyter.core import connections
from zerostart_jupyter.core.connections import Connections, basic, origin, shown, whole_number

Answer = tuple[int, Mapping[str, str], bytes]


class Server:
    """Answers by path; `seen` is what was asked for, with the headers and the client's port."""

    def __init__(self) -> None:
        self.answers: dict[str, Answer | Callable[[], Answer]] = {}
        self.seen: list[tuple[str, str, dict[str, str], int]] = []
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def log_message(self, *_: object) -> None:
                """Quiet."""

            def do_GET(self) -> None:
                port = int(self.client_address[1])
                server.seen.append((self.command, self.path, dict(self.headers), port))
                answer = server.answers.get(self.path, (404, {}, b""))
                status, headers, body = answer() if callable(answer) else answer
                self.send_response(status)
                for name, value in headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                if self.command == "GET":
                    self.wfile.write(body)

            do_HEAD = do_GET

        class Quiet(ThreadingHTTPServer):
            daemon_threads = True

            def handle_error(self, *_: object) -> None:
                """A client that leaves is no error of the test."""

        self._server = Quiet(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    def __enter__(self) -> Server:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@pytest.fixture(autouse=True)
def no_proxy(monkeypatch: pytest.MonkeyPatch, tmp_path: object) -> None:
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("NETRC", f"{tmp_path}/netrc")


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        yield running


@pytest.fixture
def pool() -> Iterator[Connections]:
    made = Connections(PATIENCE)
    yield made
    made.close()


def body(pool: Connections, url: str) -> bytes:
    with pool.get(url, {}) as response:
        return response.read(1000)


def test_a_connection_is_used_again_and_headers_are_ours(server: Server, pool: Connections) -> None:
    server.answers["/a"] = (200, {}, b"yes")
    assert [body(pool, f"{server.url}/a") for _ in range(3)] == [b"yes"] * 3
    assert len({port for *_, port in server.seen}) == 1
    headers = server.seen[0][2]
    assert (headers["User-Agent"], headers["Accept-Encoding"]) == ("zerostart", "identity")
    assert "Authorization" not in headers


def test_an_unread_body_does_not_spoil_the_next_answer(server: Server, pool: Connections) -> None:
    server.answers["/small"] = (200, {}, b"x" * 100)
    server.answers["/large"] = (200, {}, b"x" * (connections.MAX_DRAIN + 1))
    server.answers["/a"] = (200, {}, b"yes")
    for path in ("/small", "/large"):
        pool.get(server.url + path, {}).close()
        assert body(pool, f"{server.url}/a") == b"yes"


def test_a_connection_closed_while_idle_is_opened_again(server: Server, pool: Connections) -> None:
    server.answers["/a"] = (200, {}, b"yes")
    assert body(pool, f"{server.url}/a") == b"yes"
    (idle,) = next(iter(pool._idle.values()))
    assert idle.sock is not None
    idle.sock.shutdown(2)
    assert body(pool, f"{server.url}/a") == b"yes"


def test_redirects_are_followed_and_credentials_are_not_taken_along(server: Server) -> None:
    with Server() as other:
        server.answers["/a"] = (302, {"Location": "/b"}, b"")
        server.answers["/b"] = (307, {"Location": f"{other.url}/c"}, b"")
        other.answers["/c"] = (200, {}, b"there")
        trusted = origin(server.url)
        pool = Connections(
            PATIENCE,
            authorize=lambda parts: (
                {"Authorization": "Bearer s"} if origin(parts.geturl()) == trusted else {}
            ),
        )
        with pool.get(f"{server.url}/a", {}) as response:
            assert response.read(10) == b"there"
            assert response.url == f"{other.url}/c"
        with pool.head(f"{server.url}/a", {}) as response:
            assert (response.status, response.url) == (307, f"{server.url}/b")
        pool.close()
        assert all("Authorization" in headers for _, _, headers, _ in server.seen)
        assert not any("Authorization" in headers for _, _, headers, _ in other.seen)


def test_a_circle_of_redirects_ends(server: Server, pool: Connections) -> None:
    server.answers["/a"] = (302, {"Location": "/a"}, b"")
    with pytest.raises(http.client.HTTPException, match="more than 10 redirects"):
        pool.get(f"{server.url}/a", {})


def test_only_http(pool: Connections) -> None:
    with pytest.raises(http.client.HTTPException, match="not http: file:///etc/passwd"):
        pool.get("file:///etc/passwd", {})


def test_a_long_answer_is_refused(server: Server, pool: Connections) -> None:
    server.answers["/a"] = (200, {}, b"x" * 1001)
    with pytest.raises(http.client.HTTPException, match="more than 1000 bytes"):
        body(pool, f"{server.url}/a")


def test_abort_wakes_who_waits_and_lets_nobody_begin(server: Server, pool: Connections) -> None:
    asked, leave = threading.Event(), threading.Event()

    def hang() -> Answer:
        asked.set()
        leave.wait(PATIENCE)
        return (200, {}, b"")

    server.answers["/a"] = hang
    failed: list[Exception] = []

    def ask() -> None:
        try:
            pool.get(f"{server.url}/a", {})
        except (OSError, http.client.HTTPException) as error:
            failed.append(error)

    asker = threading.Thread(target=ask)
    asker.start()
    assert asked.wait(PATIENCE)
    pool.abort()
    asker.join(PATIENCE)
    leave.set()
    assert len(failed) == 1
    with pytest.raises(ConnectionAbortedError):
        pool.get(f"{server.url}/a", {})


def test_user_and_password_come_from_the_address_or_netrc(tmp_path: object) -> None:
    from urllib.parse import urlsplit

    with open(f"{tmp_path}/netrc", "w") as file:
        file.write("machine known login me password pw\n")
    assert basic(urlsplit("http://me:p%77@host/")) == {"Authorization": "Basic bWU6cHc="}
    assert basic(urlsplit("http://known/")) == {"Authorization": "Basic bWU6cHc="}
    assert basic(urlsplit("http://other/")) == {}


def test_a_proxy_is_asked_in_the_hosts_place(
    server: Server, pool: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", server.url.replace("http://", "http://me:pw@"))
    server.answers["http://far.example/a?b=c"] = (200, {}, b"through")
    assert body(pool, "http://far.example/a?b=c") == b"through"
    assert server.seen[0][2]["Proxy-Authorization"] == "Basic bWU6cHc="
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    server.answers["/a"] = (200, {}, b"direct")
    assert body(pool, f"{server.url}/a") == b"direct"


def test_what_is_shown_of_an_address_has_no_secret() -> None:
    assert shown("https://me:pw@host:8/a/b?Signature=x#y") == "https://host:8/a/b"
    assert origin("https://me:pw@host/a") == "https://host:443"
    assert origin("http://host:8080") == "http://host:8080"


def test_a_proxy_of_another_kind_is_named_without_its_password(
    pool: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("all_proxy", "socks5://me:pw@far.example:1080")
    with pytest.raises(http.client.HTTPException, match=r"not http: socks5://far\.example:1080$"):
        pool.get("http://other.example/", {})


def test_a_redirect_may_lead_to_an_address_that_is_not_quoted(
    server: Server, pool: Connections
) -> None:
    server.answers["/a"] = (302, {"Location": "/b c?d=%20\xe9"}, b"")
    server.answers["/b%20c?d=%20%E9"] = (200, {}, b"there")
    assert body(pool, f"{server.url}/a") == b"there"


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        (" 17 ", 17),
        ("\u00b2", None),  # which str.isdigit takes for one
        ("\u0663", None),
        ("9" * 5000, None),
        ("-1", None),
        ("1.5", None),
        ("", None),
        (None, None),
    ],
)
def test_only_ascii_digits_are_a_number(text: str | None, number: int | None) -> None:
    assert whole_number(text) == number
