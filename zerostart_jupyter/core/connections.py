"""HTTP connections that are kept open and reused, over the standard library's client.

A live kernel imports this: an HTTP library from an index would, once imported, pin its version
for whatever the user wants to install. Credentials are found anew for each host that is asked,
so none follows a redirect to another one.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import netrc
import os
import socket
import ssl
import threading
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property, partial
from string import punctuation
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit, urlunsplit

from zerostart_jupyter.core import tunnels

REDIRECTS = frozenset({301, 302, 303, 307, 308})
MAX_REDIRECTS = 10
MAX_DRAIN = 64 << 10  # bytes of an unwanted body read to keep its connection
DRAIN_PATIENCE = 1.0  # seconds for that; a length may lie
AGENT = "zerostart"
_DIGITS = 18

Connection = http.client.HTTPConnection
Headers = Mapping[str, str]


class Response:
    """An answer whose body is still to be read; give it back with `close()`."""

    def __init__(
        self, pool: Connections, key: str, connection: Connection, url: str, method: str
    ) -> None:
        self._pool = pool
        self._key = key
        self._connection = connection
        self._raw = connection.getresponse()
        self.method = method
        self.url = url
        self.status = self._raw.status
        self.headers = self._raw.headers

    def readinto(self, view: memoryview) -> int:
        """Fill what can be filled; 0 at the end of the body."""
        return self._raw.readinto(view)

    def read(self, limit: int) -> bytes:
        """The body; raises HTTPException if it has more than `limit` bytes."""
        body = self._raw.read(limit + 1)
        if len(body) > limit:
            raise http.client.HTTPException(f"the answer has more than {limit} bytes")
        return body

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        if not self._raw.isclosed() and not self._raw.will_close:
            left = self._raw.length
            if left is not None and left <= MAX_DRAIN:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._connection.sock.settimeout(DRAIN_PATIENCE)
                    self._raw.read()
                    self._connection.sock.settimeout(self._pool._timeout)
        reusable = self._raw.isclosed() and not self._raw.will_close
        self._raw.close()  # which the connection has let go of where it was to be closed
        self._pool._return(self._key, self._connection, reusable)

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connections:
    """Connections to any number of hosts, for any number of threads. Timeout in seconds.

    `authorize` gives the headers that prove to one host who asks; without it that is the
    address's own user and password, or ~/.netrc. Who is trusted and which proxy is asked are
    `_trust` and `_proxy`, which a subclass may know better.
    """

    def __init__(
        self, timeout: float, *, authorize: Callable[[SplitResult], Headers] | None = None
    ) -> None:
        self._timeout = timeout
        self._authorize = authorize or basic
        self._lock = threading.Lock()
        self._idle: dict[str, list[Connection]] = {}
        self._busy: set[Connection] = set()
        self._closed = False
        self._aborted = False

    def get(self, url: str, headers: Headers) -> Response:
        """The answer to a GET, redirects followed. Raises OSError or HTTPException."""
        return self._follow("GET", url, headers, lambda _, __: True)

    def head(self, url: str, headers: Headers) -> Response:
        """The answer to a HEAD, redirects followed on the same host only: the first that leads
        elsewhere is the answer."""
        return self._follow("HEAD", url, headers, _same_origin)

    def abort(self) -> None:
        """Break every connection, from whichever thread: reads that wait on one fail."""
        self.close()
        with self._lock:
            self._aborted = True
            for connection in self._busy:
                if connection.sock is not None:
                    # Below TLS, whose own shutdown is not for another thread's use.
                    with contextlib.suppress(OSError):
                        socket.socket.shutdown(connection.sock, socket.SHUT_RDWR)

    def close(self) -> None:
        """Close what is idle, and let nothing idle again."""
        with self._lock:
            self._closed = True
            idle = [each for stack in self._idle.values() for each in stack]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _follow(
        self, method: str, url: str, headers: Headers, willing: Callable[[str, str], bool]
    ) -> Response:
        for _ in range(MAX_REDIRECTS):
            response = self._send(method, url, headers)
            target = response.headers.get("Location")
            if response.status not in REDIRECTS or target is None:
                return response
            # As http.client read it, a byte a character; servers leave spaces and worse in it.
            target = urljoin(url, quote(target, safe=punctuation, encoding="latin-1"))
            if not willing(url, target):
                return response
            response.close()
            url = target
        raise http.client.HTTPException(f"more than {MAX_REDIRECTS} redirects")

    def _send(self, method: str, url: str, headers: Headers) -> Response:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise http.client.HTTPException(f"an address that is not http: {shown(url)}")
        key = origin(url)
        proxy = self._proxy(parts)
        sent = {"User-Agent": AGENT, "Accept-Encoding": "identity", **headers}
        sent.update(self._authorize(parts))
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if proxy is not None and parts.scheme == "http":
            path = urlunsplit((parts.scheme, host_of(parts), parts.path or "/", parts.query, ""))
            sent.update(credentials("Proxy-Authorization", userinfo(proxy)))
        reused = self._take(key)
        if reused is not None:
            with contextlib.ExitStack() as failed:
                failed.callback(self._return, key, reused, False)
                # A server may have closed an idle connection; that is no failure of the network.
                with contextlib.suppress(
                    http.client.HTTPException, ConnectionError, ssl.SSLEOFError
                ):
                    reused.request(method, path, headers=sent)
                    response = Response(self, key, reused, url, method)
                    failed.pop_all()
                    return response
        connection = self._connect(parts, proxy)
        with self._lock:
            self._busy.add(connection)
        try:
            connection.connect()
            if self._aborted:  # after the connecting, which `abort` cannot break
                raise ConnectionAbortedError("the work was ended")
            connection.request(method, path, headers=sent)
            return Response(self, key, connection, url, method)
        except BaseException:
            self._return(key, connection, False)
            raise

    def _connect(self, parts: SplitResult, proxy: SplitResult | None) -> Connection:
        asked = proxy or parts
        secret = asked.scheme == "https"
        host, port = str(asked.hostname), asked.port or (443 if secret else 80)
        if parts.scheme == "http" and not secret:
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        trusted = self._trust(asked if parts.scheme == "http" else parts)
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=trusted)
        if proxy is not None and parts.scheme == "https":
            tunnel = credentials("Proxy-Authorization", userinfo(proxy))
            connection.set_tunnel(str(parts.hostname), parts.port or 443, tunnel)
            if secret:
                make = partial(tunnels.through_tls, context=self._trust(proxy))
                connection._create_connection = make  # type: ignore[attr-defined]
        return connection

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        proxies = urllib.request.getproxies()
        return proxy_at(parts, proxies.get(parts.scheme) or proxies.get("all"))

    def _trust(self, parts: SplitResult) -> ssl.SSLContext:
        return self._context

    @cached_property
    def _context(self) -> ssl.SSLContext:
        # The variables of the clients that people have configured before.
        return trust(os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE"))

    def _take(self, key: str) -> Connection | None:
        with self._lock:
            stack = self._idle.get(key)
            if not stack:
                return None
            connection = stack.pop()
            self._busy.add(connection)
            return connection

    def _return(self, key: str, connection: Connection, reusable: bool) -> None:
        with self._lock:
            self._busy.discard(connection)
            if reusable and not self._closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()


def origin(url: str) -> str:
    """Scheme, host and port: what credentials are given to."""
    parts = urlsplit(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{parts.hostname or ''}:{port}"


def shown(url: str) -> str:
    """An address as it may be printed: without user and password, and without its query, where
    signatures are."""
    parts = urlsplit(url)
    return urlunsplit((parts.scheme, host_of(parts), parts.path, "", ""))


def basic(parts: SplitResult) -> Headers:
    """The Authorization header for a host, by its address or ~/.netrc."""
    return credentials("Authorization", userinfo(parts) or netrc_of(str(parts.hostname)))


def whole_number(text: str | None) -> int | None:
    """What a header says that is to be a number (RFC 9110: ASCII digits), None if it says
    anything else: `str.isdigit` knows digits that `int` does not, and `int` has a limit."""
    text = (text or "").strip()
    return int(text) if len(text) <= _DIGITS and text.isascii() and text.isdigit() else None


def host_of(parts: SplitResult) -> str:
    """Host and port as they are written, without who asks."""
    return parts.netloc.rpartition("@")[2]


def userinfo(parts: SplitResult) -> tuple[str, str] | None:
    """User and password of an address, or None if it names no user."""
    if not parts.username:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def credentials(header: str, pair: tuple[str, str] | None) -> dict[str, str]:
    """User and password as a header; none for None. RFC 7617."""
    if pair is None:
        return {}
    token = base64.b64encode(":".join(pair).encode()).decode()
    return {header: f"Basic {token}"}


def netrc_of(host: str) -> tuple[str, str] | None:
    """User and password for a host from the file NETRC names, or ~/.netrc."""
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2] or "") if found else None


def proxy_at(parts: SplitResult, found: str | None) -> SplitResult | None:
    """The proxy to ask for an address; None for none, and for hosts that `no_proxy` names.

    Raises HTTPException for one that does not speak HTTP.
    """
    if not found or urllib.request.proxy_bypass(parts.hostname or ""):
        return None
    proxy = urlsplit(found if "://" in found else f"http://{found}")
    if proxy.scheme not in ("http", "https") or not proxy.hostname:
        raise http.client.HTTPException(f"a proxy that is not http: {shown(proxy.geturl())}")
    return proxy


def trust(chosen: str | None) -> ssl.SSLContext:
    """What a file or directory of certificates trusts; without one, what OpenSSL trusts by its
    own variables and places. Raises OSError or SSLError if it cannot be read."""
    folder = chosen if chosen and os.path.isdir(chosen) else None
    file = None if folder else chosen or None
    context = ssl.create_default_context(cafile=file, capath=folder)
    configured = chosen or os.environ.get("SSL_CERT_FILE") or os.environ.get("SSL_CERT_DIR")
    if not configured and not context.get_ca_certs():
        with contextlib.suppress(ImportError):  # an interpreter that knows no system store
            import certifi

            context.load_verify_locations(certifi.where())
    return context


def _same_origin(url: str, target: str) -> bool:
    return origin(url) == origin(target)
