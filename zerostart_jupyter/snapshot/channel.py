"""One of a kernel's sockets, and how to touch it on the loop that it belongs to."""

from __future__ import annotations

import concurrent.futures
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

T = TypeVar("T")

PATIENCE = 5.0  # seconds for a loop of the kernel to carry something out


@dataclass(frozen=True)
class Channel:
    """A socket of the kernel and how to run something where it may be touched."""

    name: str
    socket: Any
    run: Callable[[Callable[[], Any]], Any]
    stream: Any

    def endpoint(self) -> str:
        """Where it is bound."""
        return bytes(self.socket.LAST_ENDPOINT).rstrip(b"\0").decode()

    def unbind(self, endpoint: str) -> None:
        """Let go of an endpoint, and of the connections made through it."""
        self._with_socket(lambda: self.socket.unbind(endpoint))

    def bind(self, endpoint: str, prepare: Callable[[Any], None] = lambda socket: None) -> str:
        """Take an endpoint; returns it with the port that it got."""

        def take() -> str:
            prepare(self.socket)
            self.socket.bind(endpoint)
            return self.endpoint()

        return str(self._with_socket(take))

    def settle(self) -> None:
        """Let libzmq finish what it began; a socket that no loop watches does so only now."""
        if self.stream is None:
            self.run(lambda: self.socket.EVENTS)

    def _with_socket(self, act: Callable[[], T]) -> T:
        def run() -> T:
            done = act()
            # Using a socket outside its stream eats the edge that the stream waits for.
            if self.stream is not None:
                self.stream.flush()
            return done

        result: T = self.run(run)
        return result


def on_loop(loop: Any) -> Callable[[Callable[[], Any]], Any]:
    """A function that runs another on this loop and returns what that returns."""

    def run(act: Callable[[], Any]) -> Any:
        done: concurrent.futures.Future[Any] = concurrent.futures.Future()

        def call() -> None:
            try:
                done.set_result(act())
            except BaseException as error:
                done.set_exception(error)

        loop.add_callback(call)
        return done.result(PATIENCE)

    return run
