"""A checkpoint into an nn.Module: by name, as `load_state_dict` would, without its second copy."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from zerostart_jupyter.core.errors import WeightsMismatch
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load.buffers import fill, rebuild, unsaved_in
from zerostart_jupyter.load.loader import load, resolve_device
from zerostart_jupyter.load.weights import Weights

NAMED = 5  # names an error lists before it counts

T = TypeVar("T")


def load_into(
    module: nn.Module,
    source: str | Path | Weights,
    *,
    strict: bool = True,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    reader: str = "auto",
    assign: bool | None = None,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """The loaded weights, placed in `module` under exactly their names.

    Parameters on the meta device are replaced by the loaded tensors, others are copied into,
    which keeps their device and dtype; `assign` says which for all. Replaced parameters have the
    checkpoint's dtype, or `dtype`, and lie on `device` (default: where the module's other
    parameters are, else the first GPU, else the CPU). Tied parameters stay tied, also when the
    checkpoint has only one of them. Buffers that no checkpoint holds are computed anew; one that
    an older checkpoint still holds is filled from it. Raises WeightsMismatch with the names that
    do not fit, before anything is read or changed, and what `load` raises.
    """
    replace = assign if assign is not None else _any_meta(module)
    place = resolve_device(device) if device is not None else _place(module)
    if isinstance(source, Weights):
        weights = source
    else:
        weights = load(
            source,
            # What is copied into existing parameters comes from where reading costs no memory.
            device=place if replace else "cpu",
            dtype=dtype,
            reader=reader,
            background=True,
            settings=settings,
            hub=hub,
        )
    ties = _ties(module)
    try:
        buffers = unsaved_in(module, weights.shapes)
        # Names and shapes are known from the headers: a misfit ends here, not after the reading.
        if _by_name_only(module):
            shapes = {name: weights.shapes[name] for name in weights.shapes if name not in buffers}
            _check(module, _with_tied(shapes, ties), weights.title, strict)
        rebuild(module, place, held=buffers)
        weights.wait()
    except BaseException:
        if weights is not source:
            weights.cancel()
        raise
    given = {name: weights[name] for name in weights}
    fill(module, {name: given.pop(name) for name in buffers}, place)
    try:
        module.load_state_dict(_with_tied(given, ties), strict=strict, assign=replace)
    except RuntimeError as error:
        raise WeightsMismatch(
            f"{weights.title} does not fit: {' '.join(str(error).split())[:500]}",
            remedy="Load it into the class it was saved from.",
        ) from error
    _tie(module, ties)
    _follow(module, weights)
    return weights


def _any_meta(module: nn.Module) -> bool:
    return any(each.is_meta for each in (*module.parameters(), *module.buffers()))


def _place(module: nn.Module) -> str:
    for each in module.parameters():
        if not each.is_meta:
            return str(each.device)
    return resolve_device("auto")


def _ties(module: nn.Module) -> list[list[str]]:
    """Names of the same parameter, grouped, where it has several."""
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]


def _with_tied(given: Mapping[str, T], ties: list[list[str]]) -> dict[str, T]:
    """A copy in which a name that is missing has what a name tied to it has."""
    full = dict(given)
    for names in ties:
        present = [name for name in names if name in given]
        for name in names:
            if present and name not in given:
                full[name] = given[present[0]]
    return full


def _tie(module: nn.Module, ties: list[list[str]]) -> None:
    for names in ties:
        first = module.get_parameter(names[0])
        for name in names[1:]:
            owner, _, attribute = name.rpartition(".")
            setattr(module.get_submodule(owner), attribute, first)


def _by_name_only(module: nn.Module) -> bool:
    """False where a module's own hook renames keys on the way in: only torch can judge then."""
    return not any(each._load_state_dict_pre_hooks for each in module.modules())


def _check(
    module: nn.Module, shapes: Mapping[str, tuple[int, ...]], title: str, strict: bool
) -> None:
    """Refuse before anything is touched: load_state_dict would have copied half by then."""
    expected = {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor)
    }
    problems = []
    if strict:
        problems += _listed("missing", [name for name in expected if name not in shapes])
        problems += _listed("unexpected", [name for name in shapes if name not in expected])
    others = [
        f"{name} ({_extents(shapes[name])} in the file, {_extents(value.shape)} in the module)"
        for name, value in expected.items()
        if name in shapes and not _fits(shapes[name], value)
    ]
    problems += _listed("of another shape", others)
    if problems:
        hint = ", or pass strict=False." if strict and not others else "."
        raise WeightsMismatch(
            f"{title} does not fit {type(module).__name__}: {'; '.join(problems)}.",
            remedy=f"Load it into the class and config it was saved from{hint}",
        )


def _listed(kind: str, names: list[str]) -> list[str]:
    if not names:
        return []
    more = f" and {len(names) - NAMED} more" if len(names) > NAMED else ""
    return [f"{kind}: {', '.join(names[:NAMED])}{more}"]


def _extents(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "scalar"


def _fits(shape: tuple[int, ...], value: torch.Tensor) -> bool:
    # As load_state_dict: a lazy parameter takes any shape, a scalar a vector of one.
    return is_lazy(value) or shape == value.shape or (shape == (1,) and value.dim() == 0)


def _follow(module: nn.Module, weights: Weights) -> None:
    """Parameters are new objects over the loaded bytes: the register must know those, too."""
    for name, tensor in module.state_dict(keep_vars=True).items():
        if name in weights and isinstance(tensor, torch.Tensor):
            weights._also(name, tensor)
