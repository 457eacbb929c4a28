"""Connections to indexes: what pip and uv were told about them, keyring, and courtesy."""

from __future__ import annotations

import itertools
import shutil
import ssl
import subprocess
import threading
from collections import Counter
from functools import cache, cached_property
from urllib.parse import SplitResult, urlsplit, urlunsplit

from zerostart_jupyter.core import connections as core
from zerostart_jupyter.core.connections import Headers, Response, host_of, origin
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install.courtesy import Courtesy
from zerostart_jupyter.install.indexes import Indexes

_KEYRING_PATIENCE = 60.0  # seconds; it may ask a person


class Connections(core.Connections):
    """Connections to any number of hosts, for any number of threads. Timeout in seconds.

    Who asks is told by the address, by an index on the same host, by ~/.netrc, and where the
    answer is 401, by keyring.
    """

    def __init__(self, indexes: Indexes, timeout: float) -> None:
        super().__init__(timeout, authorize=self._who)
        self._indexes = indexes
        self._rung: dict[str, tuple[str, str]] = {}  # what keyring said, by origin
        self._of_netrc = cache(core.netrc_of)
        self._courtesies: dict[str, Courtesy] = {}
        self.doubts: Counter[str] = Counter()  # of addresses whose ranges did not fit together
        self._asked: dict[str, bool] = {}  # whether keyring knew
        self._ringing = threading.Lock()

    def courtesy(self, url: str) -> Courtesy:
        """What the host of this address was found to bear."""
        with self._lock:
            return self._courtesies.setdefault(origin(url), Courtesy())

    def _send(self, method: str, url: str, headers: Headers) -> Response:
        response = super()._send(method, url, headers)
        if response.status != 401 or not self._indexes.keyring or not self._ring(urlsplit(url)):
            return response
        response.close()
        return super()._send(method, url, headers)

    def _proxy(self, parts: SplitResult) -> SplitResult | None:
        if self._indexes.proxy:
            return core.proxy_at(parts, self._indexes.proxy)
        return super()._proxy(parts)

    def _trust(self, parts: SplitResult) -> ssl.SSLContext:
        if self._indexes.trusted_hosts & {host_of(parts), parts.hostname}:
            return ssl._create_unverified_context()
        return self._context

    @cached_property
    def _context(self) -> ssl.SSLContext:
        file, own = self._indexes.certificate, self._indexes.client_certificate
        try:
            context = core.trust(file)
            if own:
                context.load_cert_chain(own)
        except (OSError, ssl.SSLError) as error:
            raise NetworkError(
                f"The certificates in {file or own} cannot be used: {error}.",
                remedy="Correct SSL_CERT_FILE, or pip's cert and client-cert.",
            ) from error
        return context

    def _who(self, parts: SplitResult) -> Headers:
        return core.credentials("Authorization", self._credentials(parts))

    def _credentials(self, parts: SplitResult) -> tuple[str, str] | None:
        own, asked = core.userinfo(parts), origin(parts.geturl())
        if own and own[1]:
            return own
        with self._lock:
            rung = self._rung.get(asked)
        return rung or self._of_index(parts) or own or self._of_netrc(str(parts.hostname))

    def _of_index(self, parts: SplitResult) -> tuple[str, str] | None:
        # Of two indexes on one host, the one whose address has more in common with the file's.
        def common(index: SplitResult) -> int:
            pairs = zip(index.path.split("/"), parts.path.split("/"), strict=False)
            return sum(1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], pairs))

        named = [index for index in self._beside(parts) if index.username]
        return core.userinfo(max(named, key=common)) if named else None

    def _beside(self, parts: SplitResult) -> list[SplitResult]:
        asked = origin(parts.geturl())
        urls = [url for url in self._indexes.urls if "://" in url]
        return [urlsplit(url) for url in urls if origin(url) == asked]

    def _ring(self, parts: SplitResult) -> bool:
        """Ask keyring, once for each host; True if it knew."""
        asked = origin(parts.geturl())
        with self._ringing:
            if asked not in self._asked:
                known = self._credentials(parts)
                secret = self._secret(parts, known[0] if known else "__token__")
                if secret is not None:
                    with self._lock:
                        self._rung[asked] = secret
                self._asked[asked] = secret is not None
            return self._asked[asked]

    def _secret(self, parts: SplitResult, user: str) -> tuple[str, str] | None:
        program = shutil.which("keyring")
        if program is None:
            return None
        # The names that pip and uv look it up by: the index's address, then its host.
        services = [
            urlunsplit((index.scheme, host_of(index), index.path, "", ""))
            for index in self._beside(parts)
        ]
        services += [f"{parts.scheme}://{host_of(parts)}", host_of(parts)]
        for service in dict.fromkeys(services):
            try:
                answer = subprocess.run(
                    [program, "get", service, user],
                    capture_output=True,
                    stdin=subprocess.DEVNULL,
                    text=True,
                    check=False,
                    timeout=_KEYRING_PATIENCE,
                )
            except (OSError, subprocess.TimeoutExpired):
                return None
            if answer.returncode == 0 and answer.stdout.strip():
                return user, answer.stdout.strip()
        return None
