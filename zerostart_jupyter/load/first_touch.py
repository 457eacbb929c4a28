"""The first touch of a page, by threads that wait for a disk anyway."""

from __future__ import annotations

import ctypes
import os

import torch

from zerostart_jupyter.load.pages import PAGE

_PARTS = 1024  # IOV_MAX of writev(2)

_libc = ctypes.CDLL(None, use_errno=True)
_libc.pwritev.argtypes = (ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_long)
_libc.pwritev.restype = ctypes.c_ssize_t


def touch(address: int, count: int) -> int:
    """Have the processor read a byte of each page of a mapping; returns of how many it could.

    A page that a disk brought into a virtual machine costs more at the first touch than to read
    it: its host makes it accessible only then. The kernel touches them here, with the GIL free and
    without a signal for those that the file has lost: it is asked to copy their bytes.
    """
    whole = -(-count // PAGE)
    parts = torch.ones(_PARTS, 2, dtype=torch.int64)  # struct iovec: where, and one byte
    parts[:, 0] = address + PAGE * torch.arange(_PARTS)
    touched = 0
    try:
        copies = os.memfd_create("zerostart-touched")
    except OSError:
        return 0
    try:
        for first in range(0, whole, _PARTS):
            some = min(_PARTS, whole - first)
            touched += max(0, _libc.pwritev(copies, parts.data_ptr(), some, 0))
            parts[:, 0] += PAGE * _PARTS
    finally:
        os.close(copies)
    return touched
