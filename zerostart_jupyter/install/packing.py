"""One wheel whose bytes are all here, from its digest to its links, in one go.

Threads of Python take turns, and a wheel of many small files is mostly Python. So this runs in a
process of its own: `main()` is such a process, `packers` talks to it. What it is given and what
it answers are parcels: a JSON head, and bytes.
"""

from __future__ import annotations

import contextlib
import gc
import hashlib
import json
import os
import signal
import struct
import sys
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, BinaryIO

from zerostart_jupyter.core import errors
from zerostart_jupyter.core.errors import DigestMismatch, ZerostartError
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import wheel as rules
from zerostart_jupyter.install.archive import find_end, read_directory
from zerostart_jupyter.install.environment import Environment, Rivals
from zerostart_jupyter.install.imports import ImportNames
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.unpack import Unpacking

_HEAD = struct.Struct("<IQ")  # bytes of JSON, bytes that follow
_IDLE = 64 << 20  # bytes of a buffer that are kept for the next wheel


@dataclass(frozen=True, slots=True)
class Packed:
    """A wheel that is in the store, and if `linked` in the environment."""

    names: ImportNames
    requires: tuple[str, ...]
    linked: bool


def pack(
    store: Store,
    locked: Locked,
    data: memoryview,
    environment: Environment | None = None,
    order: int = 0,
) -> Packed:
    """Check a wheel, publish it, and link it into the environment.

    Raises DigestMismatch or WheelRejected, with nothing published, or OSError.
    """
    check_digest(locked, hashlib.sha256(data).hexdigest())
    rules.check_filename(locked.wheel, locked.name, locked.version)
    end = find_end(data, len(data), locked.wheel)
    members = read_directory(data[end.start : end.stop], end, locked.wheel)
    layout = rules.lay_out(members, locked.wheel, locked.name, locked.version)
    unpacking = Unpacking(store, locked, members, layout)
    try:
        for run in unpacking.runs:
            run.feed(data[run.start : run.stop])
        stored = unpacking.publish()
    finally:
        unpacking.abandon()  # does nothing once it is published
    if environment is not None:
        environment.add(locked, stored, order, fresh=True)
        environment.mark(locked)
    return Packed(stored.names, stored.requires, environment is not None)


def check_digest(locked: Locked, found: str) -> None:
    """Raise DigestMismatch unless a wheel has the digest that the index promised."""
    if found != locked.sha256:
        raise DigestMismatch(
            f"{locked.wheel} has the sha256 {found[:12]}… and not the "
            f"{locked.sha256[:12]}… that the index promised.",
            remedy="Do not install it; tell the index, or try again later.",
        )


def check_size(locked: Locked, found: int) -> None:
    """Raise DigestMismatch unless a wheel has the size that the index promised, if it did."""
    if locked.size not in (None, found):
        raise DigestMismatch(
            f"{locked.wheel} has {found} bytes and not the {locked.size} that the index promised.",
            remedy="Do not install it; tell the index, or try again later.",
        )


def send(stream: BinaryIO, head: Mapping[str, Any], parts: Iterable[memoryview] = ()) -> None:
    """Write a parcel."""
    text = json.dumps(head, separators=(",", ":")).encode()
    parts = list(parts)
    stream.write(_HEAD.pack(len(text), sum(map(len, parts))) + text)
    for part in parts:
        stream.write(part)
    stream.flush()


def receive(stream: BinaryIO, buffer: bytearray) -> tuple[dict[str, Any], memoryview]:
    """The next parcel, its bytes in `buffer`, which grows to hold them. Raises EOFError."""
    length, size = _HEAD.unpack(_exactly(stream, _HEAD.size))
    head: dict[str, Any] = json.loads(_exactly(stream, length))
    if len(buffer) < size:
        buffer += bytes(size - len(buffer))
    body = memoryview(buffer)[:size]
    done = 0
    while done < size:
        count = stream.readinto(body[done:])  # type: ignore[attr-defined]
        if not count:
            raise EOFError
        done += count
    return head, body


def _exactly(stream: BinaryIO, count: int) -> bytes:
    data = stream.read(count)
    if len(data) < count:
        raise EOFError
    return data


def answer(packed: Packed) -> dict[str, Any]:
    """What a process says of a wheel it has packed; `taken` reads it."""
    names = {root: sorted(below) for root, below in packed.names.roots.items()}
    return {"names": names, "requires": packed.requires, "linked": packed.linked}


def refusal(error: ZerostartError | OSError) -> dict[str, Any]:
    """What it says of one that it could not; `taken` raises it."""
    if isinstance(error, ZerostartError):
        return {"error": type(error).__name__, "message": error.message, "remedy": error.remedy}
    return {"errno": error.errno, "strerror": error.strerror, "filename": str(error.filename)}


def taken(head: Mapping[str, Any]) -> Packed:
    """The result behind an answer; raises the error behind a refusal."""
    if "error" in head:
        raise getattr(errors, head["error"])(head["message"], remedy=head["remedy"])
    if "errno" in head:
        raise OSError(head["errno"], head["strerror"], head["filename"])
    names = {root: frozenset(below) for root, below in head["names"].items()}
    return Packed(ImportNames(names), tuple(head["requires"]), head["linked"])


def request(locked: Locked, order: int) -> dict[str, Any]:
    """The head of a parcel that asks for a wheel to be packed."""
    return {"locked": asdict(locked), "order": order}


def introduction(store: Store, environment: Environment | None) -> dict[str, Any]:
    """The head of a parcel that says where to pack to from now on; a process's first is one."""
    if environment is None:
        return {"cache": str(store.root), "root": None}
    wheels = [] if environment.rivals is None else environment.rivals.wheels
    return {
        "cache": str(store.root),
        "root": str(environment.root),
        "copy": environment.copy,
        "wheels": [asdict(each) for each in wheels],
    }


def main() -> None:
    """Pack what comes on standard input until it ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # whoever started it is told, and ends it
    gc.disable()
    stdin, stdout = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what else is printed is no answer
    buffer = bytearray()
    with contextlib.suppress(EOFError, BrokenPipeError):
        store, environment = _introduced(receive(stdin, buffer)[0])
        while True:
            head, data = receive(stdin, buffer)
            if "cache" in head:
                store, environment = _introduced(head)
                continue
            try:
                packed = pack(store, Locked(**head["locked"]), data, environment, head["order"])
                said = answer(packed)
            except (ZerostartError, OSError) as error:
                said = refusal(error)
            del data
            send(stdout, said)
            gc.collect(0)
            if len(buffer) > _IDLE:
                buffer = bytearray()


def _introduced(head: Mapping[str, Any]) -> tuple[Store, Environment | None]:
    store = Store(Path(head["cache"]))
    if head["root"] is None:
        return store, None
    rivals = Rivals(store, [Locked(**each) for each in head["wheels"]])
    return store, Environment(Path(head["root"]), copy=head["copy"], rivals=rivals)
