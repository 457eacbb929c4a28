"""Which of a place's files are its checkpoint, by the names that libraries give them. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound

PICKLED = (".bin", ".pt", ".pth", ".ckpt")  # torch's own formats, which are converted
FOREIGN = (".gguf", ".h5", ".msgpack", ".onnx", ".npz", ".pkl")
FORMATS = (".safetensors", *PICKLED, *FOREIGN)

# The names that count where a place has several files of a format; the first format goes first.
_FORMATS = (
    (("model.safetensors.index.json", "model.safetensors"), (".safetensors",)),
    (("pytorch_model.bin.index.json", "pytorch_model.bin"), PICKLED),
)
# What training leaves beside the weights.
_OTHERS = re.compile(
    r"(training_args|optimizer|scheduler|scaler|rng_state|random_states)[\w-]*\.(bin|pt|pth)"
)
_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.(\w+)")


def refuse_foreign(name: str) -> None:
    """Raise CheckpointInvalid for a file of a format that is not read."""
    if PurePosixPath(name).suffix in FOREIGN:
        raise CheckpointInvalid(
            f"{name} is neither a safetensors file nor one of torch's.",
            remedy="Use the model's safetensors files, or convert it with the tool it is for.",
        )


def choose(names: Sequence[str], where: str) -> list[str]:
    """The index, or the files, that are the checkpoint; those in folders are others'.

    Raises CheckpointNotFound, CheckpointInvalid.
    """
    files = sorted(name for name in names if "/" not in name)
    for usual, suffixes in _FORMATS:
        for name in usual:
            if name in files:
                return [name]
        weights = [
            name
            for name in files
            if PurePosixPath(name).suffix in suffixes and not _OTHERS.fullmatch(name)
        ]
        indexes = [
            name
            for name in files
            if name.endswith(tuple(f"{each}.index.json" for each in suffixes))
        ]
        if len(indexes) == 1:
            return indexes
        if len(weights) == 1:
            return weights
        if weights:
            return _several(weights, indexes, where)
    for name in files:
        refuse_foreign(name)
    raise CheckpointNotFound(f"{where} holds no safetensors file.", remedy="Check the path.")


def missing(shard: str, where: str) -> CheckpointNotFound:
    """The error for a shard that should be in a place."""
    return CheckpointNotFound(
        f"The shard {shard} is missing in {where[:1].lower()}{where[1:]}.",
        remedy="Download the checkpoint again: a part of it did not arrive.",
    )


def _several(weights: Sequence[str], indexes: Sequence[str], where: str) -> list[str]:
    whole = None if indexes else _numbered(weights, where)
    if whole is not None:
        return whole
    raise CheckpointInvalid(
        f"{where} holds several checkpoints: {', '.join((indexes or weights)[:4])}.",
        remedy="Name the file, or the index, that you mean.",
    )


def _numbered(names: Sequence[str], where: str) -> list[str] | None:
    """Shards named NAME-00001-of-0000N without an index, if they are one set."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    found = [match for match in matches if match is not None]
    if len(found) != len(names) or len({(match[1], match[3]) for match in found}) != 1:
        return None
    count = int(found[0][3])
    here = {int(match[2]) for match in found}
    for number in range(1, count + 1):
        if number not in here:
            raise missing(f"{found[0][1]}-{number:05d}-of-{count:05d}.{found[0][4]}", where)
    return list(names)
