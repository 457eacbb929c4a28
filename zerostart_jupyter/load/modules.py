"""A checkpoint into an nn.Module: by name, as `load_state_dict` would, without its second copy."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import nn
from torch.nn.parameter import is_lazy

from zerostart_jupyter.core.errors import LoadError, WeightsMismatch
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import sharding, tensors
from zerostart_jupyter.load.buffers import fill, rebuilt, unsaved_in
from zerostart_jupyter.load.checkpoint import open_checkpoint
from zerostart_jupyter.load.layers import Hooks, Layer, layers
from zerostart_jupyter.load.loader import begin, resolve_device
from zerostart_jupyter.load.placing import Placement, ties
from zerostart_jupyter.load.weights import Weights

NAMED = 5  # names an error lists before it counts


def load_into(
    module: nn.Module,
    source: str | Path | Weights,
    *,
    strict: bool = True,
    dtype: str | torch.dtype | None = None,
    device: str | None = None,
    device_map: Mapping[str, str] | None = None,
    layered: bool = False,
    reader: str = "auto",
    assign: bool | None = None,
    settings: Settings | None = None,
    hub: Hub | None = None,
) -> Weights:
    """The loaded weights, placed in `module` under exactly their names.

    Parameters on the meta device are replaced by the loaded tensors, others are copied into,
    which keeps their device and dtype; `assign` says which for all. Replaced parameters have the
    checkpoint's dtype, or `dtype` (scales of quantised weights keep theirs), and lie on `device`
    (default: where the module's other parameters are, else the first GPU, else the CPU).
    `device_map` names devices for submodules, by path, and wins: the longest path counts, "" is
    the rest; what it maps to "meta" is neither read nor changed. Of a DTensor each process reads
    its own share. Tied parameters stay tied, also when the checkpoint has only one of them.
    Buffers that no checkpoint holds are computed anew; one that an older checkpoint still holds is
    filled from it.

    With `layered` it returns at once: the module's forward waits layer by layer, and what it needs
    first is read first. A module whose weights are used without calling it should lie in such a
    layer: in a ModuleList, ModuleDict, Sequential, or in a module with parameters of its own.

    Raises WeightsMismatch with the names that do not fit, before anything is read or changed, and
    what `load` raises.
    """
    wanted = tensors.parse_dtype(dtype)
    replace = assign if assign is not None else _any_meta(module)
    place = resolve_device(device) if device is not None else _place(module)
    devices = _Devices(device_map or {}, place)
    if isinstance(source, Weights):
        if device_map:
            raise LoadError(
                f"{source.title} is on {source.device} already: device_map cannot place it.",
                remedy="Give load_into the path or the hub id instead of the weights.",
            )
        weights = source
    else:
        expected, slices = _order(module), sharding.ranges(module)
        with contextlib.ExitStack() as undo:
            checkpoint = undo.enter_context(open_checkpoint(source, settings))
            checkpoint.only(lambda name: devices.of(name) != "meta")
            # What is copied into existing parameters comes from where reading costs no memory.
            names = {name: devices.of(name) if replace else "cpu" for name in checkpoint.entries}
            weights = begin(
                checkpoint,
                device=names,
                dtype=wanted,
                reader=reader,
                background=True,
                order=expected if layered else (),
                slices=slices,
                settings=settings,
                hub=hub,
            )
            undo.pop_all()  # the reading closes it
    try:
        buffers = unsaved_in(module, weights.shapes)
        left_out = {name for name in module.state_dict() if devices.of(name) == "meta"}
        placement = Placement(
            module,
            replace=replace,
            strict=strict and not left_out,
            place=devices.of,
            buffers=buffers,
        )
        # Names and shapes are known from the headers: a misfit ends here, not after the reading.
        if by_name := _by_name_only(module):
            shapes = {name: weights.shapes[name] for name in weights.shapes if name not in buffers}
            _check(module, placement.with_tied(shapes), weights.title, strict, left_out)
        computed = rebuilt(module, devices.of, held=buffers)
        if layered:
            fill(module, computed, devices.of)
            _layer(module, weights, placement, by_name=by_name)
            return weights
        weights.wait()
    except BaseException:
        if weights is not source:
            weights.cancel()
        raise
    fill(module, computed, devices.of)
    placement.everything(weights)
    return weights


class _Devices:
    """Which device a tensor goes to, by the longest path in the table that its name begins with."""

    def __init__(self, table: Mapping[str, str], otherwise: str) -> None:
        self._table = {path: resolve_device(device) for path, device in table.items()}
        self._otherwise = otherwise

    def of(self, name: str) -> str:
        """The device of a parameter or buffer."""
        path = name
        while path and path not in self._table:
            path = path.rpartition(".")[0]
        return self._table.get(path, self._otherwise)


def _order(module: nn.Module) -> list[str]:
    """Names in the order in which the layers that hold them are likely to run."""
    known = [*module.state_dict(), *(name for name, _ in module.named_buffers())]
    tied = {name: names for names in ties(module) for name in names}
    found = [name for layer in layers(module, known) for name in layer.names]
    return [each for name in found for each in tied.get(name, [name])]


def _layer(module: nn.Module, weights: Weights, placement: Placement, *, by_name: bool) -> None:
    """Let the module's forward wait for its weights; from now on nothing else does."""
    if not by_name:
        everything = [Layer("", tuple(weights))]
        hooks = Hooks(
            module, everything, weights, lambda _: placement.everything(weights), lambda name: name
        )
    else:
        names = (*module.state_dict(), *placement.buffers)
        known = [name for name in names if placement.source(name, weights) in weights]
        found = layers(module, known)
        hooks = Hooks(
            module,
            found,
            weights,
            lambda layer: placement.some(weights, layer.path, layer.names),
            lambda name: placement.source(name, weights),
        )
    hooks.install()


def _any_meta(module: nn.Module) -> bool:
    return any(each.is_meta for each in (*module.parameters(), *module.buffers()))


def _place(module: nn.Module) -> str:
    for each in module.parameters():
        if not each.is_meta:
            return str(each.device)
    return resolve_device("auto")


def _by_name_only(module: nn.Module) -> bool:
    """False where a module's own hook renames keys on the way in: only torch can judge then."""
    return not any(each._load_state_dict_pre_hooks for each in module.modules())


def _check(
    module: nn.Module,
    shapes: Mapping[str, tuple[int, ...]],
    title: str,
    strict: bool,
    left_out: set[str],
) -> None:
    """Refuse before anything is touched: load_state_dict would have copied half by then."""
    expected = {
        name: value
        for name, value in module.state_dict(keep_vars=True).items()
        if isinstance(value, torch.Tensor) and name not in left_out
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
    if is_lazy(value) or shape in (tuple(value.shape), sharding.shape_here(value)):
        return True
    return shape == (1,) and value.dim() == 0
