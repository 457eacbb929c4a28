"""Staging: memory that is read into again and again, and the way from there to a tensor.

Fresh memory is slow to touch, pinned memory is dear, and direct I/O wants aligned addresses:
so each thread reads into one reused stage and its pieces are copied to where they belong.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import queue
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator

import torch

from zerostart_jupyter.load.plan import ALIGN


class Stage(ABC):
    """Room for one block. `address` is aligned to `ALIGN`; one thread at a time uses it."""

    address: int
    nbytes: int

    @abstractmethod
    def place(self, start: int, storage: torch.UntypedStorage, at: int, count: int) -> None:
        """Begin to copy `count` bytes from `start` of the stage to `at` of a storage."""

    @abstractmethod
    def settle(self) -> None:
        """Return when everything placed has arrived: the stage may be overwritten then."""

    def close(self) -> None:
        """Give the memory back."""
        return None


class HostStage(Stage):
    """Pages of our own, copied by memmove: no torch thread pool, and the GIL is free."""

    def __init__(self, nbytes: int) -> None:
        self.nbytes = nbytes
        self._pages = mmap.mmap(-1, max(nbytes, 1))
        self._anchor: ctypes.c_char | None = ctypes.c_char.from_buffer(self._pages)
        self.address = ctypes.addressof(self._anchor)

    def place(self, start: int, storage: torch.UntypedStorage, at: int, count: int) -> None:
        """Copy, at once."""
        ctypes.memmove(storage.data_ptr() + at, self.address + start, count)

    def settle(self) -> None:
        """Nothing is in flight."""
        return None

    def close(self) -> None:
        """Unmap the pages."""
        self._anchor = None
        self._pages.close()


class TorchStage(Stage):
    """A torch buffer, pinned or on the device, copied on a stream of its own."""

    def __init__(self, nbytes: int, make: Callable[[int], torch.Tensor], device: str) -> None:
        self.nbytes = nbytes
        whole = make(nbytes + ALIGN)
        skip = -whole.data_ptr() % ALIGN
        self._bytes = whole[skip : skip + nbytes]
        self.address = self._bytes.data_ptr()
        self._stream: torch.cuda.Stream | None = None
        if device.startswith("cuda"):
            self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]

    def place(self, start: int, storage: torch.UntypedStorage, at: int, count: int) -> None:
        """Queue the copy on the stage's stream."""
        target = torch.empty(0, dtype=torch.uint8, device=storage.device)
        target.set_(storage, at, (count,), (1,))
        source = self._bytes[start : start + count]
        if self._stream is None:
            target.copy_(source)
            return
        # The storage came from the default stream's pool, where work queued by its last owner
        # may not be done yet.
        self._stream.wait_stream(torch.cuda.default_stream(self._stream.device))
        with torch.cuda.stream(self._stream):
            target.copy_(source, non_blocking=True)

    def settle(self) -> None:
        """Wait for the stream; the GIL is free meanwhile."""
        if self._stream is not None:
            self._stream.synchronize()


class Ring:
    """A fixed number of stages, made when first needed, lent one to a thread."""

    def __init__(self, make: Callable[[], Stage], count: int) -> None:
        self._make = make
        self._free: queue.LifoQueue[Stage | None] = queue.LifoQueue()
        self._made: list[Stage] = []
        for _ in range(count):
            self._free.put(None)

    @contextlib.contextmanager
    def borrow(self) -> Iterator[Stage]:
        """A stage for the time of the block."""
        stage = self._free.get()
        try:
            if stage is None:
                stage = self._make()
                self._made.append(stage)
            yield stage
        finally:
            self._free.put(stage)

    def close(self) -> None:
        """Free every stage; nobody may be borrowing."""
        while self._made:
            self._made.pop().close()
