"""A hub on the loopback, and caches of its own for each test."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from tests.load.files import save_sharded
from tests.servers.hub import Hub

_SAY_WHERE = ("HF_", "HUGGING", "TRANSFORMERS_OFF", "SSL_CERT", "REQUESTS_CA", "CURL_CA")


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(_SAY_WHERE) or "proxy" in name.lower():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "zs"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("ZS_CHUNK_MB", "1")
    monkeypatch.setenv("ZS_HTTP_TIMEOUT", "30")


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {f"row.{number}": torch.randn(512, 1024, generator=generator) for number in range(4)}


@pytest.fixture
def single(tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Eight MiB in one file, and files that are nobody's weights."""
    data = save(tensors, metadata={"format": "pt"})
    with Hub({"model.safetensors": data, "config.json": b"{}", "README.md": b"tiny"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def sharded(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    names = list(tensors)
    shards = [{each: tensors[each] for each in part} for part in (names[:1], names[1:])]
    folder = save_sharded(tmp_path / "made", shards).parent
    with Hub({path.name: path.read_bytes() for path in folder.iterdir()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub
