"""What kernels, dumpers and shepherds say to one another: one JSON object a line.

A frozen kernel cannot hold a connection to the outside, which could not be dumped with it. So it
holds both ends of two pipes, its `Channel`; whoever has business with it opens them through
/proc/PID/fd, before or after it was frozen, and in a restored kernel as well.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

from zerostart_jupyter.core import errors

Message = dict[str, Any]  # `kind` says which


def send(descriptor: int, message: Message) -> None:
    """Write one message whole."""
    rest = memoryview(json.dumps(message).encode() + b"\n")
    while rest:
        rest = rest[os.write(descriptor, rest) :]


@dataclass
class Reader:
    """Messages as they arrive on a descriptor."""

    descriptor: int
    _bytes: bytearray = field(default_factory=bytearray)

    def fileno(self) -> int:
        """For selectors."""
        return self.descriptor

    def take(self) -> Iterator[Message]:
        """What one read brings; raises EOFError when the other side has gone."""
        data = os.read(self.descriptor, 1 << 16)
        if not data:
            raise EOFError
        self._bytes += data
        yield from self._complete()

    def wait(self, *, pause: float = 0.1, check: Callable[[], None] = lambda: None) -> Message:
        """The next message; `check` is called every `pause` seconds and may raise to give up."""
        for message in self._complete():
            return message
        while True:
            if select.select([self.descriptor], [], [], pause)[0]:
                data = os.read(self.descriptor, 1 << 16)
                if not data:
                    raise EOFError
                self._bytes += data
                for message in self._complete():
                    return message
            check()

    def _complete(self) -> Iterator[Message]:
        while (end := self._bytes.find(b"\n")) >= 0:
            line = bytes(self._bytes[:end])
            del self._bytes[: end + 1]
            yield json.loads(line)


@dataclass
class Channel:
    """The two pipes of a kernel: `inbox` is read by it, `outbox` is written by it."""

    inbox: tuple[int, int]
    outbox: tuple[int, int]
    reader: Reader

    @classmethod
    def open(cls) -> Channel:
        """A fresh pair of pipes."""
        inbox = os.pipe()
        return cls(inbox, os.pipe(), Reader(inbox[0]))

    def ends(self) -> dict[str, int]:
        """What the other side must know: the descriptors it opens through /proc."""
        return {"to": self.inbox[1], "from": self.outbox[0]}

    def say(self, message: Message) -> None:
        """Send a message to whoever reads the outbox."""
        send(self.outbox[1], message)

    def close(self) -> None:
        """Give up all four descriptors."""
        for descriptor in (*self.inbox, *self.outbox):
            with contextlib.suppress(OSError):
                os.close(descriptor)


def reach(pid: int, descriptor: int, flags: int) -> int:
    """Open a descriptor of another process, through /proc; raises OSError if it is gone."""
    return os.open(f"/proc/{pid}/fd/{descriptor}", flags | os.O_CLOEXEC)


def tell(pid: int, descriptor: int, message: Message) -> None:
    """Put a message into the inbox of a kernel."""
    opened = reach(pid, descriptor, os.O_WRONLY)
    try:
        send(opened, message)
    finally:
        os.close(opened)


def describe(error: BaseException) -> Message:
    """An error as a message; `revive` makes it an error again."""
    if isinstance(error, errors.ZerostartError):
        kind, message, remedy = type(error).__name__, error.message, error.remedy
    else:
        kind, message = "SnapshotError", f"{type(error).__name__}: {error}"
        remedy = "The running kernel is as it was; try again."
    return {"kind": "failed", "error": kind, "message": message, "remedy": remedy}


def revive(message: Message) -> errors.ZerostartError:
    """The error that a `failed` message tells of."""
    kind = getattr(errors, message["error"], errors.SnapshotError)
    if not (isinstance(kind, type) and issubclass(kind, errors.ZerostartError)):
        kind = errors.SnapshotError
    return kind(message["message"], remedy=message["remedy"])


def until(moment: float) -> Callable[[], None]:
    """A `check` that gives up at this time.monotonic()."""

    def check() -> None:
        if time.monotonic() > moment:
            raise TimeoutError

    return check
