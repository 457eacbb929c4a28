"""What no loader can be faster than on this machine: its disk; one that copies: its memory."""

from __future__ import annotations

import ctypes
import mmap
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from zerostart_jupyter.load import pages

SIZE = 256 << 20  # bytes


def memory() -> dict[str, str]:
    """First touch of fresh pages, and copying between touched ones, in GB/s."""
    with mmap.mmap(-1, SIZE) as one, mmap.mmap(-1, SIZE) as other:
        touched, copied = _rates(
            *((ctypes.c_char * SIZE).from_buffer(each) for each in (one, other))
        )
    return {"first touch": f"{touched:.1f} GB/s", "memcpy": f"{copied:.1f} GB/s"}


def bring(files: Sequence[Path]) -> float:
    """Seconds in which the files come into memory with nothing made of them: a thread a file has
    the kernel read it as one piece, or reads it on into a buffer where that is not known."""
    began = time.perf_counter()
    with ThreadPoolExecutor(len(files)) as threads:
        for _ in threads.map(_bring, files):
            pass
    return time.perf_counter() - began


def _bring(path: Path) -> None:
    with open(path, "rb", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        if not pages.can_populate():
            buffer = bytearray(8 << 20)
            while file.readinto(buffer):
                pass
            return
        with mmap.mmap(file.fileno(), size, mmap.MAP_PRIVATE) as mapped:
            anchor = ctypes.c_char.from_buffer(mapped)
            try:
                pages.populate(ctypes.addressof(anchor), -(-size // pages.PAGE) * pages.PAGE)
            finally:
                del anchor  # the mapping cannot be closed while it is looked at


def _rates(
    source: ctypes.Array[ctypes.c_char], target: ctypes.Array[ctypes.c_char]
) -> tuple[float, float]:
    touched = _rate(lambda: ctypes.memset(source, 1, SIZE))
    ctypes.memset(target, 1, SIZE)
    return touched, _rate(lambda: ctypes.memmove(target, source, SIZE))


def _rate(work: Callable[[], object]) -> float:
    began = time.perf_counter()
    work()
    return SIZE / 1e9 / (time.perf_counter() - began)
