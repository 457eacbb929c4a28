"""Taking turns, dropping pages, touching them, counting memory: what the measurements share."""

from __future__ import annotations

import gc
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import torch

from zerostart_jupyter.bench.loaders import Loader, Tensors
from zerostart_jupyter.load.checkpoint import forget_headers

T = TypeVar("T")


class Rounds:
    """Lets every subject have its turn in each round, in an order that changes."""

    def __init__(self, count: int, note: Callable[[str], None]) -> None:
        self._count = count
        self._note = note

    def run(self, subjects: Mapping[str, Callable[[], T]]) -> dict[str, list[T]]:
        """What each subject gave in each round."""
        found: dict[str, list[T]] = {name: [] for name in subjects}
        for number in range(self._count):
            for name in random.sample(list(subjects), len(subjects)):
                self._note(f"round {number + 1} of {self._count}: {name}")
                found[name].append(subjects[name]())
                gc.collect()  # a page that is still mapped cannot be dropped
        return found


def drop(files: Sequence[Path]) -> None:
    """Put the files out of the page cache, and their headers out of what ours remembers."""
    forget_headers()
    for path in files:
        with path.open("rb") as file:
            os.fsync(file.fileno())  # dirty pages stay where they are
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def touch(tensors: Tensors) -> None:
    """Read a byte of every page, as the first use of the weights would."""
    for tensor in tensors.values():
        tensor.detach().reshape(-1).view(torch.uint8)[::4096].max()


def timed(loader: Loader, files: Sequence[Path]) -> float:
    """Seconds until everything is there and touched."""
    began = time.perf_counter()
    with loader(files) as tensors:
        touch(tensors)
        return time.perf_counter() - began


def anonymous() -> int:
    """Bytes of this process that belong to no file."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) << 10
    return 0
