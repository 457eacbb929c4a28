"""HTTP connections that are kept open and reused, over the standard library's client.

A live kernel imports this. Any HTTP library from an index would, once imported, pin its own
version for whatever the user wants to install; and for bodies read straight into a buffer
http.client costs as little as the best of them. What a client library would add is here: reuse,
redirects, proxies, credentials, private certificate authorities.
"""

from __future__ import annotations

import base64
import contextlib
import http.client
import netrc
import os
import shutil
import ssl
import subprocess
import threading
import urllib.request
from collections.abc import Callable, Mapping
from functools import cached_property
from urllib.parse import SplitResult, unquote, urljoin, urlsplit, urlunsplit

from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install.courtesy import Courtesy
from zerostart_jupyter.install.indexes import Indexes

_REDIRECTS = (301, 302, 303, 307, 308)
_MAX_REDIRECTS = 10
_MAX_DRAIN = 64 << 10  # bytes of an unwanted body read to keep its connection
_AGENT = "zerostart"

Connection = http.client.HTTPConnection


class Response:
    """An answer whose body is still to be read; give it back with `close()`."""

    def __init__(self, pool: Connections, key: str, connection: Connection, url: str) -> None:
        self._pool = pool
        self._key = key
        self._connection = connection
        self._raw = connection.getresponse()
        self.url = url
        self.status = self._raw.status
        self.headers = self._raw.headers
        self.over: Callable[[], None] = lambda: None  # called once, when it is given back

    def readinto(self, view: memoryview) -> int:
        """Fill what can be filled; 0 at the end of the body."""
        return self._raw.readinto(view)

    def close(self) -> None:
        """Give the connection back if the body was read to its end, else close it."""
        over, self.over = self.over, lambda: None
        over()
        if not self._raw.isclosed():
            left = self._raw.length
            if left is not None and left <= _MAX_DRAIN:
                with contextlib.suppress(OSError, http.client.HTTPException):
                    self._raw.read()
        if self._raw.isclosed() and not self._raw.will_close:
            self._pool._put(self._key, self._connection)
        else:
            self._connection.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Connections:
    """Connections to any number of hosts, for any number of threads. Timeout in seconds."""

    def __init__(self, indexes: Indexes, timeout: float) -> None:
        self._indexes = indexes
        self._timeout = timeout
        self._lock = threading.Lock()
        self._idle: dict[str, list[Connection]] = {}
        self._known: dict[str, tuple[str, str] | None] = {}
        self._closed = False
        self._courtesies: dict[str, Courtesy] = {}

    def courtesy(self, url: str) -> Courtesy:
        """What the host of this address was found to bear."""
        with self._lock:
            return self._courtesies.setdefault(urlsplit(url).netloc, Courtesy())

    def get(self, url: str, headers: Mapping[str, str]) -> Response:
        """The answer to a GET, redirects followed. Raises OSError or HTTPException."""
        asked = set()
        for _ in range(_MAX_REDIRECTS):
            response = self._send(url, headers)
            host = urlsplit(url).netloc
            if response.status == 401 and self._indexes.keyring and host not in asked:
                asked.add(host)
                if self._from_keyring(url):
                    response.close()
                    continue
            target = response.headers.get("Location")
            if response.status not in _REDIRECTS or target is None:
                return response
            response.close()
            url = urljoin(url, target)
        raise http.client.HTTPException(f"more than {_MAX_REDIRECTS} redirects")

    def close(self) -> None:
        """Close what is idle, and let nothing idle again."""
        with self._lock:
            self._closed = True
            idle = [each for stack in self._idle.values() for each in stack]
            self._idle.clear()
        for connection in idle:
            connection.close()

    def _send(self, url: str, headers: Mapping[str, str]) -> Response:
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise http.client.HTTPException(f"an address that is not http: {_shown(parts)}")
        key = f"{parts.scheme}://{parts.hostname}:{parts.port or ''}"
        proxy = self._proxy(parts)
        sent = {"User-Agent": _AGENT, "Accept-Encoding": "identity", **headers}
        sent.update(_basic("Authorization", self._credentials(parts)))
        path = urlunsplit(("", "", parts.path or "/", parts.query, ""))
        if proxy is not None and parts.scheme == "http":
            path = urlunsplit((parts.scheme, _host(parts), parts.path or "/", parts.query, ""))
            sent.update(_basic("Proxy-Authorization", _userinfo(proxy)))
        reused = self._take(key)
        if reused is not None:
            # A server may have closed an idle connection; that is no failure of the network.
            with contextlib.suppress(http.client.HTTPException, ConnectionError):
                reused.request("GET", path, headers=sent)
                return Response(self, key, reused, url)
            reused.close()
        connection = self._connect(parts, proxy)
        try:
            connection.request("GET", path, headers=sent)
            return Response(self, key, connection, url)
        except BaseException:
            connection.close()
            raise

    def _connect(self, parts: SplitResult, proxy: SplitResult | None) -> Connection:
        host, port = str(parts.hostname), parts.port
        if proxy is not None:
            host, port = str(proxy.hostname), proxy.port or 80
        if parts.scheme == "http":
            return http.client.HTTPConnection(host, port, timeout=self._timeout)
        context = self._context
        if _host(parts) in self._indexes.trusted_hosts or (
            parts.hostname in self._indexes.trusted_hosts
        ):
            context = ssl._create_unverified_context()
        connection = http.client.HTTPSConnection(host, port, timeout=self._timeout, context=context)
        if proxy is not None:
            tunnel = _basic("Proxy-Authorization", _userinfo(proxy))
            connection.set_tunnel(str(parts.hostname), parts.port or 443, tunnel)
        return connection

    @cached_property
    def _context(self) -> ssl.SSLContext:
        file = self._indexes.certificate
        try:
            folder = file if file and os.path.isdir(file) else None
            context = ssl.create_default_context(cafile=None if folder else file, capath=folder)
            if self._indexes.client_certificate:
                context.load_cert_chain(self._indexes.client_certificate)
        except (OSError, ssl.SSLError) as error:
            raise NetworkError(
                f"The certificates in {file or self._indexes.client_certificate} cannot be used: "
                f"{error}.",
                remedy="Correct SSL_CERT_FILE, or pip's cert and client-cert.",
            ) from error
        if not file and not context.get_ca_certs() and not os.environ.get("SSL_CERT_DIR"):
            with contextlib.suppress(ImportError):  # an interpreter that knows no system store
                import certifi

                context.load_verify_locations(certifi.where())
        return context

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        if urllib.request.proxy_bypass(parts.hostname or ""):
            return None
        proxies = urllib.request.getproxies()
        found = self._indexes.proxy or proxies.get(parts.scheme) or proxies.get("all")
        if not found:
            return None
        return urlsplit(found if "://" in found else f"http://{found}")

    def _credentials(self, parts: SplitResult) -> tuple[str, str] | None:
        if parts.username:
            return _userinfo(parts)
        host = _host(parts)
        with self._lock:
            if host in self._known:
                return self._known[host]
        found = None
        for url in self._indexes.urls:
            other = urlsplit(url)
            if other.username and (other.scheme, _host(other)) == (parts.scheme, host):
                found = _userinfo(other)
        found = found or _from_netrc(str(parts.hostname))
        with self._lock:
            return self._known.setdefault(host, found)

    def _from_keyring(self, url: str) -> bool:
        parts = urlsplit(url)
        program = shutil.which("keyring")
        if program is None:
            return False
        known = self._credentials(parts)
        user = known[0] if known else "__token__"
        service = f"{parts.scheme}://{_host(parts)}"
        answer = subprocess.run(
            [program, "get", service, user], capture_output=True, text=True, check=False, timeout=60
        )
        secret = answer.stdout.strip()
        if answer.returncode or not secret:
            return False
        with self._lock:
            self._known[_host(parts)] = (user, secret)
        return True

    def _take(self, key: str) -> Connection | None:
        with self._lock:
            stack = self._idle.get(key)
            return stack.pop() if stack else None

    def _put(self, key: str, connection: Connection) -> None:
        with self._lock:
            if not self._closed:
                self._idle.setdefault(key, []).append(connection)
                return
        connection.close()


def _host(parts: SplitResult) -> str:
    return parts.netloc.rpartition("@")[2]


def _shown(parts: SplitResult) -> str:
    return urlunsplit((parts.scheme, _host(parts), parts.path, "", ""))


def _userinfo(parts: SplitResult) -> tuple[str, str] | None:
    if not parts.username:
        return None
    return unquote(parts.username), unquote(parts.password or "")


def _basic(header: str, pair: tuple[str, str] | None) -> dict[str, str]:
    if pair is None:
        return {}
    token = base64.b64encode(":".join(pair).encode()).decode()
    return {header: f"Basic {token}"}


def _from_netrc(host: str) -> tuple[str, str] | None:
    path = os.environ.get("NETRC") or os.path.expanduser("~/.netrc")
    try:
        found = netrc.netrc(path).authenticators(host)
    except (OSError, netrc.NetrcParseError):
        return None
    return (found[0], found[2] or "") if found else None
