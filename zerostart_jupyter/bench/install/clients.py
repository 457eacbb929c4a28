"""What an HTTP client costs that carries bodies: `python -m … CLIENT URL SIZE` fetches a file.

In segments of 8 MiB over one connection that stays open, into memory that is used again where the
client can. Prints the CPU seconds of the transfer as JSON; imports are not counted.
"""

from __future__ import annotations

import argparse
import asyncio
import http.client
import importlib
import importlib.util
import json
import ssl
import time
from collections.abc import Callable, Iterator
from urllib.parse import urlsplit

SEGMENT = 8 << 20
_BLOCK = 1 << 20


def _ranges(size: int) -> Iterator[dict[str, str]]:
    for start in range(0, size, SEGMENT):
        stop = min(start + SEGMENT, size)
        yield {"Range": f"bytes={start}-{stop - 1}", "Accept-Encoding": "identity"}


def standard(url: str, size: int) -> Callable[[], int]:
    """http.client, as install/ uses it."""
    parts = urlsplit(url)
    if parts.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(
            parts.netloc, context=context
        )
    else:
        connection = http.client.HTTPConnection(parts.netloc)
    buffer = memoryview(bytearray(_BLOCK))

    def fetch() -> int:
        done = 0
        for headers in _ranges(size):
            connection.request("GET", parts.path, headers=headers)
            with connection.getresponse() as response:
                while count := response.readinto(buffer):
                    done += count
        return done

    return fetch


def urllib3(url: str, size: int) -> Callable[[], int]:
    """urllib3."""
    import urllib3

    pool = urllib3.PoolManager(ssl_context=ssl.create_default_context())
    buffer = memoryview(bytearray(_BLOCK))

    def fetch() -> int:
        done = 0
        for headers in _ranges(size):
            response = pool.request("GET", url, headers=headers, preload_content=False)
            while count := response.readinto(buffer):
                done += count
            response.release_conn()
        return done

    return fetch


def httpx(url: str, size: int) -> Callable[[], int]:
    """httpx over HTTP/1.1."""
    return _httpx(url, size, http2=False)


def httpx_h2(url: str, size: int) -> Callable[[], int]:
    """httpx over HTTP/2."""
    return _httpx(url, size, http2=True)


def _httpx(url: str, size: int, *, http2: bool) -> Callable[[], int]:
    import httpx

    client = httpx.Client(http2=http2, verify=ssl.create_default_context(), trust_env=False)

    def fetch() -> int:
        done = 0
        for headers in _ranges(size):
            with client.stream("GET", url, headers=headers) as response:
                for block in response.iter_raw():
                    done += len(block)
        return done

    return fetch


def aiohttp(url: str, size: int) -> Callable[[], int]:
    """aiohttp."""
    aiohttp = importlib.import_module("aiohttp")  # nothing of ours needs it
    context = ssl.create_default_context()

    async def run() -> int:
        done = 0
        async with aiohttp.ClientSession() as session:
            for headers in _ranges(size):
                async with session.get(url, headers=headers, ssl=context) as response:
                    async for block in response.content.iter_any():
                        done += len(block)
        return done

    return lambda: asyncio.run(run())


CLIENTS: dict[str, Callable[[str, int], Callable[[], int]]] = {
    "http.client": standard,
    "urllib3": urllib3,
    "httpx": httpx,
    "httpx, h2": httpx_h2,
    "aiohttp": aiohttp,
}
_NEEDS = {"httpx, h2": ("httpx", "h2")}


def importable(*, tls: bool) -> list[str]:
    """Clients that are installed here and can speak to such a server."""
    return [
        name
        for name in CLIENTS
        if (tls or name != "httpx, h2")
        and all(importlib.util.find_spec(each) for each in _NEEDS.get(name, (name,)))
    ]


def main() -> None:
    """Fetch once, say what it cost."""
    parser = argparse.ArgumentParser()
    parser.add_argument("client", choices=CLIENTS)
    parser.add_argument("url")
    parser.add_argument("size", type=int)
    asked = parser.parse_args()
    fetch = CLIENTS[asked.client](asked.url, asked.size)
    before, began = time.process_time(), time.perf_counter()
    done = fetch()
    cpu, seconds = time.process_time() - before, time.perf_counter() - began
    assert done == asked.size, f"{done} bytes of {asked.size}"
    print(json.dumps({"cpu": cpu, "seconds": seconds}))


if __name__ == "__main__":
    main()
