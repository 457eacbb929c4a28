"""The handle of a load: a mapping of tensors that can be used while they arrive."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import threading
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import torch

from zerostart_jupyter.core.errors import LoadTimeout, TensorMissing
from zerostart_jupyter.core.references import Reference, references
from zerostart_jupyter.load import held
from zerostart_jupyter.load.checkpoint import Checkpoint
from zerostart_jupyter.load.later import Later
from zerostart_jupyter.load.readers.contract import Statistics
from zerostart_jupyter.load.tensors import remember, shape_of
from zerostart_jupyter.load.words import closest

GIB = 1 << 30

references().hold_with(held.hold)  # snapshots may not know torch, nor us


class Progress(NamedTuple):
    """Bytes of tensors, as they lie in the file."""

    done: int
    total: int


Arrival = tuple[str, torch.Tensor, Reference | None]  # None: not the file's bytes any more


class Weights(Mapping[str, torch.Tensor]):
    """The tensors of a checkpoint, in file order.

    `weights["name"]` waits for that tensor alone and moves its read to the front; names, length
    and `in` never wait. `tensors` and `bytes` are totals (bytes as they lie in the file).
    """

    def __init__(
        self, checkpoint: Checkpoint, *, device: str, dtype: str | None, reader: str
    ) -> None:
        self.title = checkpoint.title
        self.files = tuple(shard.path for shard in checkpoint.shards)
        self.metadata: Mapping[str, str] = dict(checkpoint.metadata)
        self.tensors = len(checkpoint.entries)
        self.bytes = checkpoint.nbytes
        self.device = device
        self.dtype = dtype
        self.reader = reader
        self.statistics: Statistics = {}
        self._entries = checkpoint.entries
        self._shards = checkpoint.shards
        self._names = tuple(checkpoint.entries)
        self._came: set[str] = set()
        self._here: dict[str, torch.Tensor] = {}
        self._later: Later | None = None  # has those that came and that nobody asked for yet
        self._changed = threading.Condition()
        self._origins: dict[str, Reference] = {}
        self._arrived = 0
        self._began = time.monotonic()
        self._ended: float | None = None
        self._error: BaseException | None = None
        self._when_done: list[Callable[[], None]] = []
        self._demand: Callable[[Iterable[str]], None] = lambda names: None
        self._stop: Callable[[], None] = lambda: None
        self._whole = False
        self._settle: Callable[[], None] | None = None

    def __getitem__(self, name: str) -> torch.Tensor:
        """The tensor, once it has arrived. Raises TensorMissing, or what ended the load."""
        found = self._here.get(name)
        if found is not None:
            return found
        self._check(name)
        if name not in self._came:
            self._await([name], None)
        found = self._here.get(name)
        if found is None:
            assert self._later is not None
            found, self._origins[name] = self._later[name]
            self._here[name] = found
        return found

    def get(self, name: str, default: Any = None) -> Any:
        """The tensor, once it has arrived; the default, at once, where there is none."""
        return self[name] if name in self._entries else default

    def __iter__(self) -> Iterator[str]:
        return iter(self._names)

    def __len__(self) -> int:
        return len(self._names)

    def __contains__(self, name: object) -> bool:
        return name in self._entries

    def wait(self, timeout: float | None = None, *, names: Iterable[str] | None = None) -> Weights:
        """This handle, once all tensors (or those named, which are read first) have arrived.

        Raises LoadTimeout after `timeout` seconds, or what ended the load early.
        """
        if names is None:
            self._await(None, timeout)
        else:
            wanted = list(names)
            for name in wanted:
                self._check(name)
            self._await(wanted, timeout)
        return self

    def cancel(self) -> None:
        """Stop reading. Tensors that have arrived stay; waiting for others raises Cancelled."""
        self._stop()

    def __await__(self) -> Generator[Any, None, Weights]:
        return self._finished().__await__()

    @functools.cached_property
    def shapes(self) -> Mapping[str, tuple[int, ...]]:
        """The shape of each, as torch counts; known before any byte has arrived."""
        return {
            name: shape_of(entry, self._shards[entry.shard])
            for name, entry in self._entries.items()
        }

    @property
    def done(self) -> bool:
        """True once nothing is read any more, whether it went well or not."""
        return self._ended is not None

    @property
    def progress(self) -> Progress:
        """How much has arrived, and of how much: `(done, total)` in bytes."""
        return Progress(self._arrived, self.bytes)

    @property
    def seconds(self) -> float:
        """How long the load took, or has taken so far."""
        return (self._ended or time.monotonic()) - self._began

    @property
    def gb_per_second(self) -> float:
        """10^9 bytes of tensors a second, of those that have arrived."""
        return self._arrived / 1e9 / self.seconds if self.seconds > 0 else 0.0

    def as_json(self) -> dict[str, Any]:
        """What `zerostart load --json` prints."""
        return {
            "source": self.title,
            "tensors": self.tensors,
            "bytes": self.bytes,
            "seconds": round(self.seconds, 6),
            "gb_per_second": round(self.gb_per_second, 3),
            "reader": self.reader,
            "device": self.device,
            "dtype": self.dtype,
            "shards": len(self.files),
            "done": self.done,
            "statistics": dict(self.statistics),
        }

    def __repr__(self) -> str:
        if not self.done:
            return (
                f"<Weights {self.title}: {self._arrived / GIB:.2f} of {self.bytes / GIB:.2f} GiB, "
                f"{self.tensors} tensors, loading to {self.device}>"
            )
        ended = "failed after" if self._error else "in"
        return (
            f"<Weights {self.title}: {self.tensors} tensors, {self.bytes / GIB:.2f} GiB on "
            f"{self.device} {ended} {self.seconds:.2f} s ({self.gb_per_second:.2f} GB/s, "
            f"{self.reader})>"
        )

    # What the loader calls.

    def _deliver(self, arrived: Sequence[Arrival], later: Sequence[str] = ()) -> None:
        with self._changed:
            for name, tensor, origin in arrived:
                self._here[name] = tensor
                if origin is not None:
                    self._origins[name] = origin
                self._came.add(name)
                self._arrived += self._entries[name].nbytes
            self._came.update(later)
            self._arrived += sum(self._entries[name].nbytes for name in later)
            self._changed.notify_all()

    def _finish(self, error: BaseException | None) -> None:
        with self._changed:
            self._whole = True
            settle, self._settle = self._settle, None
        if error is None and settle is not None:
            try:
                settle()  # before anybody is told that the load is over
            except BaseException as raised:
                error = raised
        with self._changed:
            self._error = error
            self._ended = time.monotonic()
            # Nothing will call the loader again: let go of it and of what it holds.
            self._demand = lambda names: None
            self._stop = lambda: None
            callbacks, self._when_done = self._when_done, []
            self._changed.notify_all()
        for callback in callbacks:
            callback()

    def _when_whole(self, settle: Callable[[], None]) -> bool:
        """Call this when all has arrived, before the load is over; False if it is too late."""
        with self._changed:
            if self._whole:
                return False
            self._settle = settle
        return True

    def _also(self, name: str, tensor: torch.Tensor) -> None:
        """Another tensor holds the bytes of this one now: a parameter made of it."""
        dtype = self[name].dtype
        origin = self._origins.get(name)
        if origin and tensor.dtype == dtype and tensor.is_contiguous():
            remember(name, tensor, origin)

    def _check(self, name: str) -> None:
        if name not in self._entries:
            close = closest(str(name), self._names)
            raise TensorMissing(
                f"{self.title} has no tensor {name!r}.",
                remedy=f"Did you mean {close!r}?" if close else "list(weights) shows the names.",
            )

    def _await(self, names: list[str] | None, timeout: float | None) -> None:
        deadline = None if timeout is None else time.monotonic() + timeout
        demanded = False
        while True:
            with self._changed:
                # Those that have been seen need not be looked at again.
                while names and names[-1] in self._came:
                    names.pop()
                if names == [] or (names is None and self._ended is not None and not self._error):
                    return
                if self._error is not None:
                    raise self._error
                if demanded or names is None:
                    left = None if deadline is None else deadline - time.monotonic()
                    if left is not None and left <= 0:
                        raise LoadTimeout(
                            f"{self.title} was not loaded within {timeout:g} s.",
                            remedy="It goes on in the background: wait again, or cancel it.",
                        )
                    self._changed.wait(left)
                    continue
            # Not under our lock: the loader takes its own.
            self._demand([name for name in names if name not in self._came])
            demanded = True

    async def _finished(self) -> Weights:
        loop = asyncio.get_running_loop()
        woken = asyncio.Event()
        with self._changed:
            if self._ended is None:
                self._when_done.append(lambda: _wake(loop, woken))
            else:
                woken.set()
        await woken.wait()
        return self.wait()


def _wake(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with contextlib.suppress(RuntimeError):  # nobody waits on a loop that was closed meanwhile
        loop.call_soon_threadsafe(event.set)
