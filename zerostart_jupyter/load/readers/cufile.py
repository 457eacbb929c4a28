"""`cufile`: NVIDIA's kvikio, which reads straight into device memory where GDS is engaged.

Reads are aligned, into registered stages on the device, because a safetensors header never ends
on a 4 KiB border and GDS falls back to host memory for unaligned reads. Whether GDS was engaged
is taken from the statistics of the libraries, not from a flag: the flag only says that a driver
file exists.
"""

from __future__ import annotations

import ctypes
import errno
import glob
import os
import re
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import ReaderUnavailable
from zerostart_jupyter.load.checkpoint import Shard
from zerostart_jupyter.load.plan import ALIGN, Block
from zerostart_jupyter.load.readers.contract import Statistics
from zerostart_jupyter.load.readers.staged import Allocate, StagedReader
from zerostart_jupyter.load.readers.staging import Stage
from zerostart_jupyter.load.words import first_line

NVIDIA_FS = Path("/proc/driver/nvidia-fs/stats")


def kvikio() -> Any:
    """The kvikio package; raises ReaderUnavailable where it, or libcuda, cannot be loaded."""
    try:
        _preload_cufile()
        ctypes.CDLL("libcuda.so.1", mode=ctypes.RTLD_GLOBAL)
        import kvikio as module
        import kvikio.buffer
        import kvikio.defaults
        import kvikio.statistics
    except (ImportError, OSError, RuntimeError) as error:
        raise ReaderUnavailable(
            f"The cufile reader cannot work here: {first_line(error)}.",
            remedy='Install kvikio-cu13 (or -cu12) and an NVIDIA driver, or use reader="direct".',
        ) from error
    return module


def _preload_cufile() -> None:
    """kvikio looks for libcufile in site-packages only; our environments are other directories."""
    for entry in sys.path:
        for found in glob.glob(os.path.join(glob.escape(entry), "nvidia/*/lib/libcufile.so.0")):
            ctypes.CDLL(found, mode=ctypes.RTLD_GLOBAL)
            return


class CuFileReader(StagedReader):
    """Reads through kvikio. `on_device` says whether the stages lie in device memory."""

    name = "cufile"

    def __init__(
        self,
        shards: Sequence[Shard],
        *,
        stage: Callable[[], Stage],
        stages: int,
        allocate: Allocate,
        on_device: bool,
    ) -> None:
        self._library = kvikio()
        self._on_device = on_device
        self._registered: list[object] = []
        self._files: list[Any] = []
        super().__init__(
            shards, stage=lambda: self._register(stage()), stages=stages, allocate=allocate
        )
        # Its own defaults are one thread and buffered reads. The pool is the process's: it only
        # ever grows here, since another load may be using it.
        defaults = self._library.defaults
        if defaults.get("num_threads") < stages:
            defaults.set("num_threads", stages)
        defaults.set("auto_direct_io_read", True)
        self._monitor = self._library.SummaryMonitor()
        self._nvidia_fs = _nvidia_fs_reads()
        try:
            for shard in shards:
                self._files.append(self._library.CuFile(f"/proc/self/fd/{shard.descriptor}"))
        except RuntimeError as error:
            self.close()
            raise ReaderUnavailable(
                f"kvikio cannot open {shard.path}: {first_line(error)}.",
                remedy='Load it with reader="direct".',
            ) from error

    def statistics(self) -> Statistics:
        """`bytes`, the path they took, and `gds`: yes, no or unknown, was GDS engaged.

        Bytes that other work of this process reads through kvikio meanwhile are counted as well.
        """
        by_backend = self._monitor.get().by_backend
        cufile = by_backend["GDS"]["bytes_transferred"]
        posix = by_backend["POSIX"]["bytes_transferred"]
        return {
            "bytes": cufile + posix,
            "cufile_bytes": cufile,
            "posix_bytes": posix,
            "gds": _engaged(cufile, self._nvidia_fs, _nvidia_fs_reads()),
        }

    def close(self) -> None:
        """Close the files, deregister and free the stages, stop counting."""
        while self._files:
            self._files.pop().close()
        while self._registered:
            self._library.buffer.memory_deregister(self._registered.pop())
        self._monitor.stop()
        super().close()

    def _fetch(self, block: Block, stage: Stage) -> None:
        shard = self.shards[block.shard]
        # Aligned at both ends, except where the file ends.
        end = min(-(-block.stop // ALIGN) * ALIGN, shard.identity.size)
        count = end - block.start
        span = self._span(stage.address, count)
        try:
            # One task: the threads that call this are the parallelism.
            got = self._files[block.shard].pread(span, count, block.start, count).get()
        except RuntimeError as error:
            shard.verify()  # a file cut short is reported as a failed read, too
            raise OSError(errno.EIO, first_line(error)) from error
        if got < block.stop - block.start:
            raise shard.changed()

    def _span(self, address: int, count: int) -> object:
        if self._on_device:
            return _DeviceSpan(address, count)
        return (ctypes.c_ubyte * count).from_address(address)

    def _register(self, stage: Stage) -> Stage:
        if self._on_device:
            span = self._span(stage.address, stage.nbytes)
            self._library.buffer.memory_register(span)
            self._registered.append(span)
        return stage


class _DeviceSpan:
    """Device memory as kvikio takes it: version 3 of the CUDA array interface."""

    def __init__(self, address: int, count: int) -> None:
        self.__cuda_array_interface__ = {
            "shape": (count,),
            "typestr": "|u1",
            "data": (address, False),
            "strides": None,
            "version": 3,
        }


def _engaged(through_cufile: int, before: int | None, now: int | None) -> str:
    if through_cufile == 0:
        return "no"
    if before is None or now is None:
        return "unknown"
    return "yes" if now > before else "no"


def _nvidia_fs_reads() -> int | None:
    """Reads the GDS kernel driver has done since it was loaded; None where it does not say."""
    try:
        match = re.search(r"^Reads\s*:\s*n=(\d+)", NVIDIA_FS.read_text(), re.MULTILINE)
    except OSError:
        return None
    return int(match[1]) if match else None
