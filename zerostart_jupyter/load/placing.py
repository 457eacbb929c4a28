"""Loaded tensors into a module's places, some names at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Mapping
from typing import TypeVar

import torch
from torch import nn

from zerostart_jupyter.core.errors import WeightsMismatch
from zerostart_jupyter.load import sharding
from zerostart_jupyter.load.buffers import Place, fill
from zerostart_jupyter.load.weights import Weights

T = TypeVar("T")


class Placement:
    """Puts tensors into a module by name; tied parameters stay tied. Safe from several threads.

    `replace` makes parameters of the loaded tensors, else they are copied into. `buffers` are
    names of tensors for buffers that are in no state dict, and `place` says where those belong.
    """

    def __init__(
        self,
        module: nn.Module,
        *,
        replace: bool,
        strict: bool,
        place: Place,
        buffers: Iterable[str],
    ) -> None:
        self._module = module
        self._replace = replace
        self._strict = strict
        self._place = place
        self.buffers = frozenset(buffers)
        self._ties = ties(module)
        self._tied = {name: names for names in self._ties for name in names}
        self._placed: set[str] = set()
        self._lock = threading.RLock()

    def everything(self, weights: Weights) -> None:
        """Place all, as `load_state_dict` would; raises WeightsMismatch as that raises."""
        given = dict(weights.items())
        fill(self._module, {name: given.pop(name) for name in self.buffers}, self._place)
        self._assign("", self.with_tied(given), weights, strict=self._strict)
        for names in self._ties:
            self._tie(names, names[0])

    def some(self, weights: Weights, path: str, names: Iterable[str]) -> None:
        """Place these of the submodule at `path`, which have arrived, unless they are there."""
        # Parameters made inside inference mode could not be trained or saved later.
        with self._lock, torch.inference_mode(False):
            fresh = {}
            for name in names:
                if name not in self._placed:
                    fresh[name] = weights[self.source(name, weights)]
                    self._placed.update(self._tied.get(name, (name,)))
            buffers = {name: fresh.pop(name) for name in self.buffers & fresh.keys()}
            fill(self._module, buffers, self._place)
            self._assign(path, fresh, weights, strict=False)
            for name in fresh:
                if name in self._tied:
                    self._tie(self._tied[name], name)

    def with_tied(self, given: Mapping[str, T]) -> dict[str, T]:
        """A copy in which a name that is missing has what a name tied to it has."""
        full = dict(given)
        for names in self._ties:
            present = [name for name in names if name in given]
            for name in names:
                if present and name not in given:
                    full[name] = given[present[0]]
        return full

    def source(self, name: str, given: Iterable[str]) -> str:
        """The name under which a tensor for this one was given, if it is a tied one's."""
        if name in given:
            return name
        return next((each for each in self._tied.get(name, ()) if each in given), name)

    def _assign(
        self, path: str, given: dict[str, torch.Tensor], weights: Weights, *, strict: bool
    ) -> None:
        owner = self._module.get_submodule(path)
        prefix = f"{path}." if path else ""
        places = owner.state_dict(keep_vars=True)
        found = {}
        for name, tensor in given.items():
            own = name.removeprefix(prefix)
            place = places.get(own)
            if isinstance(place, torch.Tensor) and sharding.is_share(place):
                tensor = sharding.share(tensor, place)
            found[own] = tensor
        try:
            owner.load_state_dict(found, strict, self._replace)
        except RuntimeError as error:
            raise WeightsMismatch(
                f"{weights.title} does not fit: {' '.join(str(error).split())[:500]}",
                remedy="Load it into the class it was saved from.",
            ) from error
        # Parameters are new objects over the loaded bytes: the register must know those, too.
        for own, place in owner.state_dict(keep_vars=True).items():
            if own in found and prefix + own in weights and isinstance(place, torch.Tensor):
                weights._also(prefix + own, place)

    def _tie(self, names: list[str], to: str) -> None:
        first = self._module.get_parameter(to)
        for name in names:
            owner, _, attribute = name.rpartition(".")
            setattr(self._module.get_submodule(owner), attribute, first)


def ties(module: nn.Module) -> list[list[str]]:
    """Names of the same parameter, grouped, where it has several."""
    groups: dict[int, list[str]] = {}
    for name, parameter in module.named_parameters(remove_duplicate=False):
        groups.setdefault(id(parameter), []).append(name)
    return [names for names in groups.values() if len(names) > 1]
