"""A longer way to a server on loopback: `python -m … PORT --trip SECONDS --rate N`.

Bytes arrive half a round trip late in both directions, and a connection takes one more round trip
to open, as TCP's handshake does. Prints its address as JSON; ends when its standard input does.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import socket
import sys

from zerostart_jupyter.bench.install.pacing import listening

_BLOCK = 64 << 10
_UNDER_WAY = 256  # blocks of one direction

Waiting = asyncio.Queue[tuple[float, bytes]]


async def _take(reader: asyncio.StreamReader, waiting: Waiting, delay: float, open_: float) -> None:
    now = asyncio.get_running_loop().time
    data = b"-"
    while data:
        data = b""
        with contextlib.suppress(ConnectionError):
            data = await reader.read(_BLOCK)
        await waiting.put((max(now(), open_) + delay, data))


async def _give(writer: asyncio.StreamWriter, waiting: Waiting) -> None:
    now = asyncio.get_running_loop().time
    with contextlib.suppress(ConnectionError):
        while True:
            due, data = await waiting.get()
            if (left := due - now()) > 0:
                await asyncio.sleep(left)
            if not data:
                break
            writer.write(data)
            await writer.drain()
    writer.close()


async def _serve(made: socket.socket, port: int, trip: float) -> None:
    async def relay(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        opened = asyncio.get_running_loop().time() + trip
        far_reader, far_writer = await asyncio.open_connection("127.0.0.1", port)
        there, back = Waiting(_UNDER_WAY), Waiting(_UNDER_WAY)
        await asyncio.gather(
            _take(reader, there, trip / 2, opened),
            _give(far_writer, there),
            _take(far_reader, back, trip / 2, 0.0),
            _give(writer, back),
            return_exceptions=True,
        )

    server = await asyncio.start_server(relay, sock=made)
    print(json.dumps({"port": made.getsockname()[1]}), flush=True)
    async with server:
        await asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)


def main() -> None:
    """Relay until standard input ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("port", type=int)
    parser.add_argument("--trip", type=float, required=True, help="seconds of a round trip")
    parser.add_argument("--rate", type=int, default=0, help="bytes a second on each connection")
    asked = parser.parse_args()
    asyncio.run(_serve(listening(asked.rate), asked.port, asked.trip))


if __name__ == "__main__":
    main()
