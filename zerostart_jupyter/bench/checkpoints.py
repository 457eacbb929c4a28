"""Synthetic checkpoints shaped like those people load, scaled to the machine."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

SHARDS = 4
SMALLEST = 64 << 10  # bytes of an expert's matrix: below, headers are all one measures

Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A checkpoint on disk, and what it stands for."""

    name: str
    folder: Path
    files: tuple[Path, ...]
    nbytes: int
    tensors: int

    @property
    def title(self) -> str:
        """What it is called in a table."""
        return f"{self.name} ({self.tensors} tensors, {self.nbytes / 1e9:.1f} GB)"


def dense(size: int) -> Shapes:
    """An 8B: 32 layers of nine tensors, embedding and head; widths scaled."""
    width = max(64, int(math.sqrt(size / 2 / (32 * 3.25 * 4 + 63)) // 64 * 64))
    wide, narrow, words = width * 7 // 2, width // 4, width * 31
    shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (words, width)}
    for number in range(32):
        layer = f"model.layers.{number}."
        shapes |= {
            f"{layer}self_attn.q_proj.weight": (width, width),
            f"{layer}self_attn.k_proj.weight": (narrow, width),
            f"{layer}self_attn.v_proj.weight": (narrow, width),
            f"{layer}self_attn.o_proj.weight": (width, width),
            f"{layer}mlp.gate_proj.weight": (wide, width),
            f"{layer}mlp.up_proj.weight": (wide, width),
            f"{layer}mlp.down_proj.weight": (width, wide),
            f"{layer}input_layernorm.weight": (width,),
            f"{layer}post_attention_layernorm.weight": (width,),
        }
    shapes |= {"model.norm.weight": (width,), "lm_head.weight": (words, width)}
    return {name: (torch.bfloat16, shape) for name, shape in shapes.items()}


def experts(size: int) -> Shapes:
    """A 30B mixture: 48 layers of 128 experts of three matrices, each a tensor of its own."""
    count = max(48, min(48 * 128, size // 3 // SMALLEST))
    rows = max(8, size // (count * 3) // 2 // 256)
    shapes: Shapes = {}
    for number in range(count):
        expert = f"model.layers.{number * 48 // count}.mlp.experts.{number % 128}.{number}"
        for part in ("gate_proj", "up_proj", "down_proj"):
            shapes[f"{expert}.{part}.weight"] = (torch.bfloat16, (rows, 256))
    return shapes


def packed(size: int) -> Shapes:
    """A 120B in four bits: 36 layers of two stacks of packed experts with their scales."""
    row = max(16, size // 36 // 2 // (16 * 17) // 16 * 16)
    shapes: Shapes = {}
    for number in range(36):
        for part in ("gate_up_proj", "down_proj"):
            stack = f"model.layers.{number}.mlp.experts.{part}"
            shapes[f"{stack}_blocks"] = (torch.uint8, (16, row, 16))
            shapes[f"{stack}_scales"] = (torch.uint8, (16, row))
            shapes[f"{stack}_bias"] = (torch.bfloat16, (16, 32))
    return shapes


def write(name: str, shapes: Shapes, folder: Path) -> Checkpoint:
    """Write random content in these shapes, sharded as the hub does it, with an index."""
    folder.mkdir(parents=True)
    files = []
    homes: dict[str, str] = {}
    total = 0
    for number, part in enumerate(_shards(shapes), 1):
        path = folder / f"model-{number:05d}-of-{SHARDS:05d}.safetensors"
        tensors = dict(_content(part))
        save_file(tensors, path, metadata={"format": "pt"})
        homes |= dict.fromkeys(part, path.name)
        total += sum(tensor.nbytes for tensor in tensors.values())
        files.append(path)
    index = {"metadata": {"total_size": total}, "weight_map": homes}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return Checkpoint(name, folder, tuple(files), total, len(homes))


def _shards(shapes: Shapes) -> Iterator[Shapes]:
    share = sum(map(_bytes, shapes.values())) / SHARDS
    part: Shapes = {}
    held, made = 0, 0
    for name, about in shapes.items():
        part[name] = about
        held += _bytes(about)
        if held >= share * (made + 1) and made < SHARDS - 1:
            yield part
            part, made = {}, made + 1
    yield part


def _bytes(about: tuple[torch.dtype, tuple[int, ...]]) -> int:
    return about[0].itemsize * math.prod(about[1])


def _content(
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Random bytes, a different stretch of one pool for each tensor: making them all is slow."""
    largest = max(map(_bytes, shapes.values()))
    generator = torch.Generator().manual_seed(0)
    pool = torch.randint(0, 256, (largest + (1 << 20),), dtype=torch.uint8, generator=generator)
    for number, (name, about) in enumerate(shapes.items()):
        start = number * 4096 % (1 << 20)
        stretch = pool[start : start + _bytes(about)].clone()
        yield name, stretch.view(about[0]).reshape(about[1])
