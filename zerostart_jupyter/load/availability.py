"""Which readers work here, and why not: asked of the machine without importing torch or kvikio."""

from __future__ import annotations

import ctypes
import importlib.util
import os
from pathlib import Path

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.load import pages

NVIDIA_FS = Path("/proc/driver/nvidia-fs/version")


def capabilities() -> list[Capability]:
    """One line for torch and for each reader: does it work on this machine, and what would help."""
    return [torch(), mmap(), direct(), cufile(), gds()]


def torch() -> Capability:
    """Whether there is a torch to load into."""
    if importlib.util.find_spec("torch") is None:
        return Capability(
            "load.torch", False, "torch is not installed.", "Run `%zs_install torch`."
        )
    return Capability("load.torch", True, "torch is installed.")


def mmap() -> Capability:
    """The mmap reader: always there, faster where the kernel populates mappings itself."""
    if pages.can_populate():
        return Capability("load.mmap", True, "Views of the file; pages come by MADV_POPULATE_READ.")
    return Capability(
        "load.mmap",
        True,
        "Views of the file; pages come by reading, as the kernel has no MADV_POPULATE_READ.",
        "Linux 5.14 or newer reads faster.",
    )


def direct() -> Capability:
    """The direct reader; each file system answers for itself when a file is opened."""
    if not hasattr(os, "O_DIRECT"):
        return Capability("load.direct", False, "This system has no O_DIRECT.", "Use mmap.")
    return Capability("load.direct", True, "O_DIRECT where the file system has it, else buffered.")


def cufile() -> Capability:
    """The cufile reader: kvikio and a CUDA driver."""
    if importlib.util.find_spec("kvikio") is None:
        return Capability(
            "load.cufile",
            False,
            "kvikio is not installed.",
            "On a machine with an NVIDIA GPU, run `%zs_install kvikio-cu13`.",
        )
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return Capability(
            "load.cufile",
            False,
            "kvikio is installed, but there is no CUDA driver (libcuda.so.1).",
            "Install the NVIDIA driver, or start the container with the GPU.",
        )
    return Capability("load.cufile", True, "kvikio and the CUDA driver are there.")


def gds() -> Capability:
    """GPUDirect Storage: whether its kernel driver is loaded. A load says if it was engaged."""
    if not NVIDIA_FS.exists():
        return Capability(
            "load.gds",
            False,
            "The nvidia-fs driver is not loaded: reads for the GPU go through host memory.",
            "Optional: install GPUDirect Storage (nvidia-gds) where the disk is a local NVMe.",
        )
    return Capability(
        "load.gds", True, "The nvidia-fs driver is loaded; each load says whether it was engaged."
    )
