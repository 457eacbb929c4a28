from __future__ import annotations

import pytest

from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound
from zerostart_jupyter.load.naming import choose, refuse_foreign

SHARDS = [f"model-0000{number}-of-00002.safetensors" for number in (1, 2)]


@pytest.mark.parametrize(
    ("names", "chosen"),
    [
        (["model.safetensors", "pytorch_model.bin", "config.json"], ["model.safetensors"]),
        ([*SHARDS, "model.safetensors.index.json"], ["model.safetensors.index.json"]),
        (SHARDS, SHARDS),
        (["pytorch_model.bin", "flax_model.msgpack", "training_args.bin"], ["pytorch_model.bin"]),
        (["x.pt", "optimizer.pt", "scheduler.pt", "rng_state_0.pth", "scaler.pt"], ["x.pt"]),
        (
            ["pytorch_model-00001-of-00001.bin", "optimizer.bin"],
            ["pytorch_model-00001-of-00001.bin"],
        ),
        (["x.safetensors", "pytorch_model.bin"], ["x.safetensors"]),
        (["unet.safetensors", "y.ckpt", "onnx/model.onnx"], ["unet.safetensors"]),
        (["onnx/model.safetensors", "model.pth"], ["model.pth"]),
    ],
)
def test_libraries_names_decide(names: list[str], chosen: list[str]) -> None:
    assert choose(names, "The model x") == chosen


@pytest.mark.parametrize(
    ("names", "error", "words"),
    [
        ([], CheckpointNotFound, "The model x holds no safetensors file"),
        (["a/model.safetensors", "training_args.bin"], CheckpointNotFound, "holds no"),
        (["a.safetensors", "b.safetensors"], CheckpointInvalid, "several checkpoints: a.safe"),
        (["a.pt", "b.pt"], CheckpointInvalid, "several checkpoints: a.pt, b.pt"),
        ([*SHARDS[1:], "a-00001-of-00001.safetensors"], CheckpointInvalid, "several"),
        (
            ["m-00001-of-00003.bin", "m-00003-of-00003.bin"],
            CheckpointNotFound,
            r"shard m-00002-of-00003\.bin is missing in the model x",
        ),
        (["model.gguf"], CheckpointInvalid, r"model.gguf is neither .* nor one of torch's"),
    ],
)
def test_what_is_no_checkpoint_is_said(
    names: list[str], error: type[Exception], words: str
) -> None:
    with pytest.raises(error, match=words):
        choose(names, "The model x")


def test_other_formats_are_refused_by_name() -> None:
    refuse_foreign("model.safetensors")
    with pytest.raises(CheckpointInvalid, match="the tool it is for"):
        refuse_foreign("model.onnx")
