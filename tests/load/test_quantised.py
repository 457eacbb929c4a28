from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load.test_loader import same
from zerostart_jupyter.load import load
from zerostart_jupyter.load.checkpoint import Entry
from zerostart_jupyter.load.quantised import convertible

# name -> (type, is it converted?): what the checkpoints of each method hold
METHODS: dict[str, dict[str, tuple[str, bool]]] = {
    "fp8": {
        "q.weight": ("F8_E4M3", False),
        "q.weight_scale_inv": ("F32", False),
        "q.input_scale": ("F32", False),
        "q.bias": ("BF16", True),
        "attention.k_scale": ("F32", False),
        "norm.weight": ("BF16", True),
    },
    "gptq": {
        "q.qweight": ("I32", False),
        "q.qzeros": ("I32", False),
        "q.scales": ("F16", False),
        "q.g_idx": ("I32", False),
        "q.bias": ("F16", True),
        "norm.weight": ("F16", True),
    },
    "bitsandbytes": {
        "q.weight": ("U8", False),
        "q.weight.absmax": ("F32", False),
        "q.weight.quant_map": ("F32", False),
        "q.weight.quant_state.bitsandbytes__nf4": ("U8", False),
        "norm.weight": ("BF16", True),
    },
    "bitsandbytes int8": {
        "q.weight": ("I8", False),
        "q.SCB": ("F32", False),
        "norm.weight": ("F16", True),
    },
    "mxfp4": {
        "experts.gate_up_proj_blocks": ("U8", False),
        "experts.gate_up_proj_scales": ("U8", False),
        "experts.gate_up_proj_bias": ("BF16", True),
        "router.weight": ("BF16", True),
    },
    "compressed-tensors": {
        "q.weight_packed": ("I32", False),
        "q.weight_scale": ("BF16", False),
        "q.weight_global_scale": ("F32", False),
        "q.weight_shape": ("I64", False),
        "norm.weight": ("BF16", True),
    },
    "aqlm": {
        "q.codes": ("I8", False),
        "q.codebooks": ("F16", False),
        "q.scales": ("F16", False),
        "norm.weight": ("F16", True),
    },
    "none": {
        "block.layer_scale": ("F32", True),
        "logit_scale": ("F32", True),
        "embeddings.position_ids": ("I64", False),
        "attention.mask": ("U8", False),
        "attention.masked_bias": ("F32", True),
        "attention.flag": ("BOOL", False),
        "attention.weight": ("F16", True),
    },
}


@pytest.mark.parametrize("method", METHODS)
def test_scales_are_left_alone_where_weights_are_quantised(method: str) -> None:
    table = METHODS[method]
    entries = [Entry(name, dtype, (1,), 0, 0, 1) for name, (dtype, _) in table.items()]
    assert convertible(entries) == {name for name, (_, wanted) in table.items() if wanted}


def test_a_load_converts_by_that_rule(tmp_path: Path) -> None:
    tensors = {
        "q.weight": torch.ones(4, 4).to(torch.float8_e4m3fn),
        "q.weight_scale_inv": torch.full((1,), 1 / 3),
        "norm.weight": torch.full((4,), 1 / 3),
    }
    save_file(tensors, tmp_path / "x.safetensors")
    weights = load(tmp_path / "x.safetensors", device="cpu", dtype="bf16")
    assert same(weights["q.weight"], tensors["q.weight"])
    assert same(weights["q.weight_scale_inv"], tensors["q.weight_scale_inv"])
    assert same(weights["norm.weight"], tensors["norm.weight"].bfloat16())
