"""What the checkpoints people load look like, scaled to a number of bytes."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch

SMALLEST = 64 << 10  # bytes of an expert's matrix: below, headers are all one measures

Shapes = dict[str, tuple[torch.dtype, tuple[int, ...]]]


@dataclass(frozen=True, slots=True)
class Llama:
    """An 8B: 32 layers of nine tensors, embedding and head; its width is what is scaled."""

    width: int
    layers: int = 32
    heads: int = 8
    groups: int = 2

    @classmethod
    def of(cls, size: int) -> Llama:
        """The one of about `size` bytes."""
        return cls(max(64, int(math.sqrt(size / 2 / (32 * 3.25 * 4 + 63)) // 64 * 64)))

    @property
    def words(self) -> int:
        """The size of its vocabulary."""
        return self.width * 31

    @property
    def wide(self) -> int:
        """The width between the two halves of its MLP."""
        return self.width * 7 // 2

    def shapes(self) -> Shapes:
        """Its tensors."""
        width, wide, narrow = self.width, self.wide, self.width * self.groups // self.heads
        shapes: dict[str, tuple[int, ...]] = {"model.embed_tokens.weight": (self.words, width)}
        for number in range(self.layers):
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
        shapes |= {"model.norm.weight": (width,), "lm_head.weight": (self.words, width)}
        return {name: (torch.bfloat16, shape) for name, shape in shapes.items()}

    def config(self) -> dict[str, Any]:
        """What transformers.LlamaConfig is told."""
        return {
            "hidden_size": self.width,
            "intermediate_size": self.wide,
            "num_hidden_layers": self.layers,
            "num_attention_heads": self.heads,
            "num_key_value_heads": self.groups,
            "head_dim": self.width // self.heads,
            "vocab_size": self.words,
            "tie_word_embeddings": False,
            "dtype": "bfloat16",
        }


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


def nbytes(about: tuple[torch.dtype, tuple[int, ...]]) -> int:
    """Bytes of one tensor."""
    return about[0].itemsize * math.prod(about[1])
