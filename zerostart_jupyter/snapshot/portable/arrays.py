"""NumPy arrays beside a pickle: each in a `.npy` file of its own, what they share kept.

An array that lies in another is written as a view of it, so two names that saw each other's
changes see them afterwards, too.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from zerostart_jupyter.snapshot.portable import marks
from zerostart_jupyter.snapshot.portable.verified import Digest, Verified

_OWN_FILE = 64 << 10  # bytes from which on an array has a file of its own
_PLAIN = "biufcmMSU"  # kinds that the .npy format names exactly
_BLOCK = 8 << 20  # bytes written at once


class Arrays:
    """Writes arrays into a directory, or nowhere."""

    def __init__(self, directory: Path | None, check: Callable[[], None]) -> None:
        self.digests: list[Digest] = []
        self._directory = directory
        self._check = check
        self._count = 0
        if directory is not None:
            directory.mkdir(mode=0o700)

    def reduce(self, value: Any) -> Any:
        """How an array is written; NotImplemented for all else and for what pickle does well."""
        numpy = sys.modules.get("numpy")
        if numpy is None or type(value) is not numpy.ndarray or value.dtype.hasobject:
            return NotImplemented
        base = value.base
        if type(base) is numpy.ndarray and _flat(base):
            offset = _address(value) - _address(base)
            shape, strides = value.shape, value.strides
            return marks.view, (base, offset, shape, strides, value.dtype, value.flags.writeable)
        plain = value.dtype.kind in _PLAIN and numpy.dtype(value.dtype.str) == value.dtype
        if value.nbytes < _OWN_FILE or not plain or not value.flags.writeable:
            return NotImplemented
        if not (value.flags.c_contiguous or value.flags.f_contiguous):
            return NotImplemented
        key, self._count = self._count, self._count + 1
        if self._directory is not None:
            self.digests.append(self._write(self._directory / f"{key}.npy", value))
        return marks.array, (key,)

    def _write(self, path: Path, value: Any) -> Digest:
        numpy: Any = sys.modules["numpy"]
        sha, size = hashlib.sha256(), 0
        flat = value.ravel(order="K").view(numpy.uint8)
        header = numpy.lib.format.header_data_from_array_1_0(value)
        with path.open("xb") as stream:
            numpy.lib.format.write_array_header_2_0(stream, header)
            written = stream.tell()
        with path.open("r+b", buffering=0) as stream:
            sha.update(stream.read(written))
            size = written + flat.nbytes
            for done in range(0, flat.nbytes, _BLOCK):
                self._check()
                block = flat[done : done + _BLOCK].data
                sha.update(block)
                _write_all(stream, block)
        return Digest(size, sha.hexdigest())


def read(path: Path, digest: Digest) -> Any:
    """The array of a file; raises SnapshotCorrupt if it is not the one that was written."""
    import importlib

    numpy: Any = importlib.import_module("numpy")
    with Verified.open(path, digest) as stream:
        try:
            numpy.lib.format.read_magic(stream)
            shape, fortran, dtype = numpy.lib.format.read_array_header_2_0(stream)
            stream.expect(dtype.itemsize * _product(shape))
            made = numpy.empty(shape, dtype, order="F" if fortran else "C")
        except (ValueError, TypeError, MemoryError) as error:
            raise stream.damaged() from error
        stream.fill(memoryview(made.ravel(order="K").view(numpy.uint8)))
    return made


def _flat(base: Any) -> bool:
    """Whether an array's memory is one run that a reader can lay views into."""
    numpy: Any = sys.modules["numpy"]
    return not base.dtype.hasobject and bool(
        numpy.shares_memory(base.ravel(order="K"), base) if base.size else False
    )


def _address(value: Any) -> int:
    return int(value.__array_interface__["data"][0])


def _product(shape: tuple[int, ...]) -> int:
    made = 1
    for each in shape:
        made *= each
    return made


def _write_all(stream: Any, block: memoryview) -> None:
    while block:
        block = block[stream.write(block) :]
