"""Buffers that no checkpoint holds, such as rotary frequencies: computed anew after a meta init.

A module built on the meta device has the shape of such a buffer, but not its values. They come
from a second instance of the module that owns it, made on the device with the same arguments,
which are read back from the attributes of the first. What that cannot give is refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from zerostart_jupyter.core.errors import WeightsMismatch


def rebuild(module: nn.Module, device: str) -> None:
    """Give every non-persistent meta buffer its values; raises WeightsMismatch for what cannot."""
    for path, owner in list(_lacking(module)):
        names = _unsaved(owner)
        made = _again(owner, device)
        for name in names:
            old = owner._buffers[name]
            new = None if made is None else made._buffers.get(name)
            if old is None or new is None or new.shape != old.shape or new.is_meta:
                where = f"{path}.{name}".lstrip(".")
                raise WeightsMismatch(
                    f"The buffer {where} of {type(owner).__name__} is in no checkpoint and its "
                    "values are unknown, as the module was built on the meta device.",
                    remedy="Build that module on the CPU, or set the buffer before loading.",
                )
            owner._buffers[name] = new.to(device=device, dtype=old.dtype)


def _lacking(module: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    for path, owner in module.named_modules():
        if _unsaved(owner):
            yield path, owner


def _unsaved(owner: nn.Module) -> list[str]:
    return [
        name
        for name, buffer in owner._buffers.items()
        if buffer is not None and buffer.is_meta and name in owner._non_persistent_buffers_set
    ]


def _again(owner: nn.Module, device: str) -> nn.Module | None:
    arguments = _arguments(owner)
    if arguments is None:
        return None
    # The instance is for its buffers: no time for random weights, no draw from the user's stream.
    with torch.random.fork_rng(devices=[]), torch.device(device), _Unrandom():
        try:
            return type(owner)(**arguments)
        except Exception:  # a constructor of somebody else's, given our guess at its arguments
            return None


def _arguments(owner: nn.Module) -> dict[str, Any] | None:
    """What the constructor would be called with, by attributes of its parameters' names."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(owner).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("device", "dtype"):
            continue
        if hasattr(owner, name):
            found[name] = getattr(owner, name)
        elif parameter.default is parameter.empty:
            return None
    return found


class _Unrandom(TorchFunctionMode):
    """Turns random initialisation into nothing."""

    _DRAWS = frozenset(
        {"normal_", "uniform_", "trunc_normal_", "kaiming_uniform_", "kaiming_normal_"}
        | {"xavier_uniform_", "xavier_normal_", "orthogonal_", "erfinv_"}
    )

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if getattr(func, "__name__", "") in self._DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))
