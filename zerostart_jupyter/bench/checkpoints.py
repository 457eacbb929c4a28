"""Synthetic checkpoints, written as the hub has them: shards, an index."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from zerostart_jupyter.bench.shapes import Shapes, nbytes

SHARDS = 4


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
    share = sum(map(nbytes, shapes.values())) / SHARDS
    part: Shapes = {}
    held, made = 0, 0
    for name, about in shapes.items():
        part[name] = about
        held += nbytes(about)
        if held >= share * (made + 1) and made < SHARDS - 1:
            yield part
            part, made = {}, made + 1
    yield part


def _content(
    shapes: Mapping[str, tuple[torch.dtype, tuple[int, ...]]],
) -> Iterator[tuple[str, torch.Tensor]]:
    """Random bytes, a different stretch of one pool for each tensor: making them all is slow."""
    largest = max(map(nbytes, shapes.values()))
    generator = torch.Generator().manual_seed(0)
    pool = torch.randint(0, 256, (largest + (1 << 20),), dtype=torch.uint8, generator=generator)
    for number, (name, about) in enumerate(shapes.items()):
        start = number * 4096 % (1 << 20)
        stretch = pool[start : start + nbytes(about)].clone()
        yield name, stretch.view(about[0]).reshape(about[1])
