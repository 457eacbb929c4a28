"""Safetensors files written by hand, so that every way of being wrong can be written, too."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

Description = dict[str, Any]


def describe(dtype: str, shape: Sequence[int], start: int, stop: int) -> Description:
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [start, stop]}


def file_bytes(header: bytes | Mapping[str, Any], data: bytes = b"", *, length: int = -1) -> bytes:
    """A whole file; `length` is what it claims of its header, if that is to be a lie."""
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text) if length < 0 else length) + text + data


def pattern(count: int, seed: int = 0) -> bytes:
    """Bytes in which no two positions near each other look alike."""
    generator = torch.Generator().manual_seed(seed)
    return bytes(torch.randint(0, 256, (count,), dtype=torch.uint8, generator=generator).tolist())


def write_shard(path: Path, sizes: Mapping[str, int], *, pad: int = 0, seed: int = 0) -> None:
    """A shard of U8 tensors of these sizes, its data `pad` bytes further than it would begin."""
    header: dict[str, Description] = {}
    at = 0
    for name, size in sizes.items():
        header[name] = describe("U8", [size], at, at + size)
        at += size
    path.write_bytes(file_bytes(json.dumps(header).encode() + b" " * pad, pattern(at, seed)))


def every_dtype() -> dict[str, torch.Tensor]:
    """A tensor of each type torch shares with the format, and of each odd shape."""
    generator = torch.Generator().manual_seed(1)
    tensors = {
        f"type_{dtype}".replace("torch.", ""): torch.randint(
            0, 2 if dtype is torch.bool else 120, (6, 7), generator=generator
        ).to(dtype)
        for dtype in (
            *(torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64),
            *(torch.uint16, torch.uint32, torch.uint64, torch.complex64),
            *(torch.float16, torch.bfloat16, torch.float32, torch.float64),
            *(torch.float8_e4m3fn, torch.float8_e5m2),
            *(torch.float8_e4m3fnuz, torch.float8_e5m2fnuz),
        )
    }
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.empty(0, 3)
    tensors["odd"] = torch.arange(13, dtype=torch.uint8)
    return tensors


def save_sharded(folder: Path, shards: Sequence[Mapping[str, torch.Tensor]]) -> Path:
    """A sharded checkpoint as the hub's are: numbered files and an index."""
    folder.mkdir(parents=True, exist_ok=True)
    weight_map = {}
    for number, tensors in enumerate(shards, 1):
        name = f"model-{number:05d}-of-{len(shards):05d}.safetensors"
        save_file(dict(tensors), folder / name, metadata={"format": "pt"})
        weight_map.update(dict.fromkeys(tensors, name))
    index = folder / "model.safetensors.index.json"
    index.write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return index


def descriptors() -> set[str]:
    """What this process has open, by number."""
    return {entry.name for entry in Path("/proc/self/fd").iterdir() if entry.exists()}
