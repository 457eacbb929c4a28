"""Buffers that no checkpoint holds, such as rotary frequencies: computed anew after a meta init.

A module built on the meta device has the shape of such a buffer, but not its values. They come
from a second instance of the module that owns it, made on the device with the same arguments,
which are read back from the attributes of the first; a `config` that it did not keep is that of
the module around it, as in transformers. What that cannot give is refused by name.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

from zerostart_jupyter.core.errors import WeightsMismatch

Place = Callable[[str], str]  # the device of a buffer, by its name


def unsaved_in(module: nn.Module, shapes: Mapping[str, tuple[int, ...]]) -> set[str]:
    """Names of the module's non-persistent buffers that these tensors fit nevertheless.

    A checkpoint that was saved when such a buffer still was persistent has it: BERT's
    `position_ids`, say.
    """
    saved = module.state_dict(keep_vars=True)
    return {
        name
        for name, buffer in module.named_buffers()
        if name not in saved and shapes.get(name) == buffer.shape
    }


def fill(module: nn.Module, tensors: Mapping[str, torch.Tensor], place: Place) -> None:
    """Give buffers these values; a real one keeps its device, and each its dtype."""
    for name, tensor in tensors.items():
        owner, _, attribute = name.rpartition(".")
        old = module.get_buffer(name)
        device = place(name) if old.is_meta else old.device
        module.get_submodule(owner)._buffers[attribute] = tensor.to(device, old.dtype)


def rebuilt(
    module: nn.Module, place: Place, *, held: Collection[str] = ()
) -> dict[str, torch.Tensor]:
    """Every non-persistent meta buffer with its values; raises WeightsMismatch for what has none.

    `held` are those that a checkpoint has after all; what is to stay on the meta device does. The
    module is not changed.
    """
    found: dict[str, torch.Tensor] = {}
    for path, owner in _lacking(module):
        wheres = {name: f"{path}.{name}".lstrip(".") for name in _unsaved(owner)}
        devices = {
            name: place(where)
            for name, where in wheres.items()
            if where not in held and place(where) != "meta"
        }
        made = None
        if devices:
            made = _again(owner, next(iter(devices.values())), _config_around(module, path))
        for name, device in devices.items():
            old = owner._buffers[name]
            new = None if made is None else made._buffers.get(name)
            if old is None or new is None or new.shape != old.shape or new.is_meta:
                raise WeightsMismatch(
                    f"The buffer {wheres[name]} of {type(owner).__name__} is in no checkpoint and "
                    "its values are unknown, as the module was built on the meta device.",
                    remedy="Build that module on the CPU, or set the buffer before loading.",
                )
            found[wheres[name]] = new.to(device=device, dtype=old.dtype)
    return found


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


def _config_around(module: nn.Module, path: str) -> Any:
    """The `config` of the nearest module around this one that has one, else None."""
    around = path
    while around:
        around = around.rpartition(".")[0]
        config = getattr(module.get_submodule(around), "config", None)
        if config is not None:
            return config
    return None


def _again(owner: nn.Module, device: str, config: Any) -> nn.Module | None:
    arguments = _arguments(owner, config)
    if arguments is None:
        return None
    # The instance is for its buffers: no time for random weights, no draw from the user's stream.
    with torch.random.fork_rng(devices=[]), torch.device(device), _Unrandom():
        try:
            return type(owner)(**arguments)
        except Exception:  # a constructor of somebody else's, given our guess at its arguments
            return None


def _arguments(owner: nn.Module, config: Any) -> dict[str, Any] | None:
    """What the constructor would be called with, by attributes of its parameters' names."""
    found: dict[str, Any] = {}
    for name, parameter in inspect.signature(type(owner).__init__).parameters.items():
        if name == "self" or parameter.kind in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD):
            continue
        if name in ("device", "dtype"):
            continue
        if hasattr(owner, name):
            found[name] = getattr(owner, name)
        elif name == "config" and config is not None:
            found[name] = config
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
