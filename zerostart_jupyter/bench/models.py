"""A transformers model: until it is whole, and until its first forward is done."""

from __future__ import annotations

import importlib.util
import json
import time
from collections.abc import Callable
from typing import Any

import torch

from zerostart_jupyter.bench.checkpoints import Checkpoint
from zerostart_jupyter.bench.report import Case
from zerostart_jupyter.bench.rounds import Rounds, drop, touch
from zerostart_jupyter.bench.shapes import Llama
from zerostart_jupyter.load import accelerate, load_into


def cases(
    checkpoint: Checkpoint, model: Llama, rounds: int, note: Callable[[str], None]
) -> list[Case]:
    """`from_pretrained` with and without us, and a forward that does not wait for all of it.

    None where transformers is not installed. The checkpoint has the model's shapes.
    """
    if importlib.util.find_spec("transformers") is None:
        note("transformers is not installed: its cases are left out")
        return []
    import transformers

    quiet: Any = transformers.utils.logging
    quiet.disable_progress_bar()
    config = _configure(checkpoint, model)
    words = torch.tensor([[1, 5, 9, 33]])
    kind: Any = transformers.LlamaForCausalLM

    def pretrained() -> Any:
        return kind.from_pretrained(checkpoint.folder, dtype=torch.bfloat16)

    def accelerated() -> Any:
        with accelerate():
            return pretrained()

    def layered() -> Any:
        with torch.device("meta"):
            made = kind._from_config(config, dtype=torch.bfloat16)
        load_into(made.eval(), checkpoint.folder, device="cpu", layered=True)
        return made

    def whole(make: Callable[[], Any]) -> float:
        drop(checkpoint.files)
        began = time.perf_counter()
        touch(dict(make().named_parameters()))
        return time.perf_counter() - began

    def forward(make: Callable[[], Any]) -> float:
        drop(checkpoint.files)
        began = time.perf_counter()
        with torch.no_grad():
            make()(words)
        return time.perf_counter() - began

    taken = Rounds(rounds, lambda text: note(f"model: {text}")).run(
        {
            "from_pretrained": lambda: whole(pretrained),
            "accelerated": lambda: whole(accelerated),
            "plain forward": lambda: forward(pretrained),
            "layered forward": lambda: forward(layered),
        }
    )
    return [
        Case(
            "8B, cold, from_pretrained under accelerate()",
            tuple(taken["accelerated"]),
            "from_pretrained",
            tuple(taken["from_pretrained"]),
            "every page of every parameter touched",
        ),
        Case(
            "8B, cold, until the first forward is done, layered",
            tuple(taken["layered forward"]),
            "from_pretrained",
            tuple(taken["plain forward"]),
            "both build the model, load and run 4 tokens",
        ),
    ]


def _configure(checkpoint: Checkpoint, model: Llama) -> Any:
    """The config of a checkpoint, also written beside it."""
    import transformers

    config = transformers.LlamaConfig(**model.config())
    about = {**config.to_dict(), "architectures": ["LlamaForCausalLM"]}
    (checkpoint.folder / "config.json").write_text(json.dumps(about))
    return config
