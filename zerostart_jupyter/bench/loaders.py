"""Ours and the others that load safetensors, as they are meant to be used on the CPU."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

import torch
from safetensors import safe_open
from safetensors.torch import load_file

from zerostart_jupyter.load import load

Tensors = Mapping[str, torch.Tensor]
Loader = Callable[[Sequence[Path]], AbstractContextManager[Tensors]]


def peers() -> dict[str, Loader]:
    """Those that are installed here, by name; safetensors' own two ways always are."""
    found: dict[str, Loader] = {"load_file": _load_file, "safe_open + clone": _clones}
    if importlib.util.find_spec("fastsafetensors"):
        found["fastsafetensors"] = _fastsafetensors
    if importlib.util.find_spec("runai_model_streamer"):
        found["Run:ai streamer"] = _runai
    return found


@contextlib.contextmanager
def ours(files: Sequence[Path]) -> Iterator[Tensors]:
    """`zerostart.load` of the directory."""
    yield load(files[0].parent, device="cpu")


@contextlib.contextmanager
def _load_file(files: Sequence[Path]) -> Iterator[Tensors]:
    found: dict[str, torch.Tensor] = {}
    for path in files:
        found.update(load_file(path))
    yield found


@contextlib.contextmanager
def _clones(files: Sequence[Path]) -> Iterator[Tensors]:
    found: dict[str, torch.Tensor] = {}
    for path in files:
        with safe_open(path, framework="pt") as opened:
            for name in opened.keys():  # noqa: SIM118 -- it is no mapping
                found[name] = opened.get_tensor(name).clone()
    yield found


@contextlib.contextmanager
def _fastsafetensors(files: Sequence[Path]) -> Iterator[Tensors]:
    from fastsafetensors import SafeTensorsFileLoader, SingleGroup

    loader = SafeTensorsFileLoader(SingleGroup(), "cpu", nogds=True)
    try:
        loader.add_filenames({0: [str(path) for path in files]})
        buffer = loader.copy_files_to_device()
        try:
            yield {name: buffer.get_tensor(name) for name in loader.get_keys()}
        finally:
            buffer.close()
    finally:
        loader.close()


@contextlib.contextmanager
def _runai(files: Sequence[Path]) -> Iterator[Tensors]:
    from runai_model_streamer import SafetensorsStreamer

    with SafetensorsStreamer() as streamer:
        streamer.stream_files([str(path) for path in files])
        yield dict(streamer.get_tensors())
