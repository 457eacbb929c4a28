"""What a load from a hub must give, and may not leave open."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
from pathlib import Path

import torch

from tests.servers.hub import Hub


def check(found: dict[str, torch.Tensor] | object, expected: dict[str, torch.Tensor]) -> None:
    assert isinstance(found, dict) or hasattr(found, "items")
    got = dict(found.items())  # type: ignore[attr-defined]
    assert set(got) == set(expected)
    for name, tensor in got.items():
        assert torch.equal(tensor, expected[name]), name


def descriptors(hub: Hub) -> set[str]:
    """What this process has open, without the servers' ends of connections."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(entry.stat().st_mode):
                with socket.socket(fileno=os.dup(int(entry.name))) as end:
                    if end.family == socket.AF_INET and end.getsockname()[1] in hub.ports:
                        continue
            found.add(entry.name)
    return found


def hf_cache(tmp_path: Path) -> Path:
    """Where the hub's library keeps files, of a test with caches of its own."""
    return tmp_path / "hf" / "hub"


def fetched_by_theirs(hub: Hub, file: str, cache: Path) -> None:
    """Have huggingface_hub bring a file of the tiny model into a cache."""
    import huggingface_hub

    huggingface_hub.hf_hub_download(
        "org/tiny", file, cache_dir=cache, endpoint=hub.url, token=False
    )
