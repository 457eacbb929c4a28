"""Builds the fake libcuda, loads it, and lends its "device" memory to torch."""

from __future__ import annotations

import ctypes
import shutil
import subprocess
import sys
from pathlib import Path

import torch

SOURCE = Path(__file__).with_name("libcuda.c")
KVIKIO = Path(__file__).parents[3] / ".tools" / "kvikio"


def compiled(folder: Path) -> Path:
    """`folder/libcuda.so.1`."""
    library = folder / "libcuda.so.1"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler is not None, "these tests are marked `compiler`"
    options = ["-shared", "-fPIC", "-O1", "-Wall", "-Werror", "-Wl,-soname,libcuda.so.1"]
    subprocess.run([compiler, *options, "-o", library, SOURCE, "-lpthread"], check=True)
    return library


class FakeCuda:
    """The library, loaded so that every later dlopen of libcuda.so.1 finds it."""

    def __init__(self, library: Path) -> None:
        assert (KVIKIO / "kvikio").is_dir(), "run: python tools/set_up_kvikio.py"
        self._library = ctypes.CDLL(str(library), mode=ctypes.RTLD_GLOBAL)
        self._library.fake_alloc.restype = ctypes.c_ulonglong
        self._library.fake_alloc.argtypes = (ctypes.c_size_t,)
        self._library.fake_copied.restype = ctypes.c_size_t
        if str(KVIKIO) not in sys.path:
            sys.path.append(str(KVIKIO))

    @property
    def copied(self) -> int:
        """Bytes that went to the device so far."""
        return int(self._library.fake_copied())

    def tensor(self, count: int) -> torch.Tensor:
        """Bytes of device memory, which torch takes for its own kind."""
        address = self._library.fake_alloc(max(count, 1))
        assert address, "the fake has no more allocations to give"
        return torch.frombuffer(
            (ctypes.c_ubyte * max(count, 1)).from_address(address), dtype=torch.uint8, count=count
        )

    def storage(self, count: int) -> torch.UntypedStorage:
        """The same, for one tensor's bytes."""
        return self.tensor(count).untyped_storage()
