"""What torch.compile has made: taken along, and used where torch, Triton and the GPU match."""

from __future__ import annotations

import importlib.metadata
import platform
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

FILE = "compiled.bin"


def save(directory: Path) -> dict[str, str] | None:
    """Write the artefacts of this process; returns what they fit, None if there are none.

    torch.compiler.save_cache_artifacts, torch 2.7 and later.
    """
    torch: Any = sys.modules.get("torch")
    if torch is None or "torch._inductor" not in sys.modules:
        return None
    made = getattr(torch.compiler, "save_cache_artifacts", lambda: None)()
    if not made or not made[0]:
        return None
    (directory / FILE).write_bytes(made[0])
    return fitting()


def load(data: bytes, made_for: Mapping[str, str]) -> str | None:
    """Hand them to torch; returns why they were not, None if they were."""
    torch: Any = sys.modules.get("torch")
    if torch is None:
        return "torch is not imported"
    for name, value in fitting().items():
        if made_for.get(name) != value:
            return f"they were made for {name} {made_for.get(name)}, here it is {value}"
    if torch.compiler.load_cache_artifacts(data) is None:
        return "torch did not take them"
    return None


def fitting() -> dict[str, str]:
    """What compiled code depends on, here."""
    torch: Any = sys.modules["torch"]
    try:
        triton = importlib.metadata.version("triton")
    except importlib.metadata.PackageNotFoundError:
        triton = "none"
    gpu = torch.cuda.get_device_name(0) if torch.cuda.is_available() else "none"
    processor = f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}"
    return {"torch": torch.__version__, "triton": triton, "GPU": gpu, "processor": processor}
