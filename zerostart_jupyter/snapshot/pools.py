"""Native pools whose threads a fork may lose, because their libraries start them again.

A thread of such a pool has no name of its own, and neither has one that nobody starts again: they
are told apart by their number.
"""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Collection, Iterator
from typing import Any

_PAUSE_HARD = 2  # omp_pause_hard, OpenMP 5.0 section 3.2.44
_OPENMP = ("libgomp", "libomp", "libiomp")
_OPENBLAS = ("libopenblas", "libscipy_openblas")
_SIZES = ("openblas_get_num_threads", "openblas_get_num_threads64_")
_ARROW = "libarrow.so"
# arrow::internal::GetCpuThreadPool(), arrow::io::internal::GetIOThreadPool(), and
# arrow::internal::ThreadPool::GetActualCapacity()
_ARROW_POOLS = (
    "_ZN5arrow8internal16GetCpuThreadPoolEv",
    "_ZN5arrow2io8internal15GetIOThreadPoolEv",
)
_ARROW_SIZE = "_ZN5arrow8internal10ThreadPool17GetActualCapacityEv"

_libraries: dict[str, ctypes.CDLL] = {}


def pause_openmp(mapped: Collection[str]) -> None:
    """End the threads of all OpenMP runtimes; the next parallel region starts them again."""
    for library in _mapped(mapped, _OPENMP):
        pause = getattr(library, "omp_pause_resource_all", None)
        if pause is not None:
            pause(_PAUSE_HARD)


def left(mapped: Collection[str]) -> int:
    """How many threads the pools that survive a fork have at most, the others' work aside.

    OpenBLAS's end first, as pthread_atfork(3) would have them do; nothing may compute meanwhile.
    """
    found = 0
    for library in _mapped(mapped, _OPENBLAS):
        end = getattr(library, "blas_thread_shutdown_", None)
        if end is not None:
            end()
        else:
            found += _size_of_openblas(library) - 1
    for library in _mapped(mapped, (_ARROW,)):
        found += _size_of_arrow(library)
    numexpr: Any = sys.modules.get("numexpr")
    if numexpr is not None:
        found += int(getattr(numexpr, "get_num_threads", os.cpu_count)() or 1)
    return found


def _size_of_openblas(library: ctypes.CDLL) -> int:
    for name in _SIZES:
        for prefix in ("", "scipy_"):
            size = getattr(library, prefix + name, None)
            if size is not None:
                return int(size())
    return os.cpu_count() or 1


def _size_of_arrow(library: ctypes.CDLL) -> int:
    try:
        size = getattr(library, _ARROW_SIZE)
        size.argtypes = [ctypes.c_void_p]
        found = 0
        for name in _ARROW_POOLS:
            pool = getattr(library, name)
            pool.restype = ctypes.c_void_p
            found += int(size(pool()))
        return found
    except AttributeError:  # another version's names
        arrow: Any = sys.modules.get("pyarrow")
        return int(arrow.cpu_count() + arrow.io_thread_count()) if arrow is not None else 0


def _mapped(mapped: Collection[str], names: tuple[str, ...]) -> Iterator[ctypes.CDLL]:
    for path in sorted(mapped):
        if os.path.basename(path).startswith(names):
            if path not in _libraries:
                _libraries[path] = ctypes.CDLL(path)
            yield _libraries[path]
