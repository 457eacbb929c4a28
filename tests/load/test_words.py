from __future__ import annotations

import pytest

from zerostart_jupyter.load.words import closest

NAMES = [
    f"model.layers.{layer}.mlp.experts.{expert}.{part}_proj.weight"
    for layer in range(40)
    for expert in range(128)
    for part in ("gate", "up", "down")
]


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        (
            "model.layer.7.mlp.experts.9.up_proj.weight",
            "model.layers.7.mlp.experts.9.up_proj.weight",
        ),
        ("layers.39.mlp.experts.0.up_proj.weight", "model.layers.39.mlp.experts.0.up_proj.weight"),
        (
            "model.layers.20.mlp.experts.64.down_proj.weigth",
            "model.layers.20.mlp.experts.64.down_proj.weight",
        ),
        ("lm_head.weight", None),
        ("", None),
    ],
)
def test_what_was_meant_is_found_among_many(typed: str, meant: str | None) -> None:
    assert closest(typed, NAMES) == meant


def test_among_none_there_is_none() -> None:
    assert closest("a", []) is None
