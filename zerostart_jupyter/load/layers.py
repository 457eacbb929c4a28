"""A module that runs while its weights arrive: each layer waits for its own.

A layer is a child of a ModuleList, ModuleDict or Sequential, with all that is below it, and any
other module that holds parameters. One that holds parameters beside children waits for those
children, too: such modules use their children's weights without calling them
(nn.MultiheadAttention). Layers are read in the order in which the module registers them, unless
one is asked for earlier.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from dataclasses import dataclass
from typing import Any

from torch import nn
from torch.utils.hooks import RemovableHandle

from zerostart_jupyter.load.weights import Weights

CONTAINERS = (nn.ModuleList, nn.ModuleDict, nn.Sequential)
BARE = (nn.ParameterList, nn.ParameterDict)  # have no forward: their owner's is waited in


@dataclass(frozen=True, slots=True)
class Layer:
    """A submodule, and the names that have to be there before its forward runs."""

    path: str
    names: tuple[str, ...]


def layers(module: nn.Module, known: Collection[str]) -> list[Layer]:
    """The layers of a module in order; together they have each of the known names once."""
    found: list[Layer] = []
    left = dict.fromkeys(known)
    for path, whole in _units(module, ""):
        owner = module.get_submodule(path)
        names = [name for name in _names(owner, path, whole=whole) if name in left]
        for name in names:
            del left[name]
        if names:
            found.append(Layer(path, tuple(names)))
    if left:
        found.append(Layer("", tuple(left)))
    return found


class Hooks:
    """Forward pre-hooks that wait for a layer, place it, and remove themselves.

    What no forward has asked for is placed when everything has arrived. Where the load ends early
    the hooks that are left stay, and raise what ended it.
    """

    def __init__(
        self,
        module: nn.Module,
        found: list[Layer],
        weights: Weights,
        place: Callable[[Layer], None],
        source: Callable[[str], str],
    ) -> None:
        self._module = module
        self._layers = found
        self._weights = weights
        self._place = place
        self._source = source
        self._handles: dict[Layer, RemovableHandle] = {}

    def install(self) -> None:
        """Let forward wait from now on."""
        for layer in self._layers:
            owner = self._module.get_submodule(layer.path)
            self._handles[layer] = owner.register_forward_pre_hook(self._hook(layer), prepend=True)
        if not self._weights._when_whole(self._settle):
            self._settle()

    def _settle(self) -> None:
        for layer in self._layers:
            self._bring(layer)

    def _hook(self, layer: Layer) -> Callable[[nn.Module, Any], None]:
        def wait(module: nn.Module, args: Any) -> None:
            # What ends this early (Ctrl-C, a failed load) leaves the hook for the next forward.
            self._weights.wait(names=dict.fromkeys(map(self._source, layer.names)))
            self._bring(layer)

        return wait

    def _bring(self, layer: Layer) -> None:
        self._place(layer)
        handle = self._handles.pop(layer, None)
        if handle is not None:
            handle.remove()


def _units(module: nn.Module, path: str) -> Iterator[tuple[str, bool]]:
    """(path, whole): a submodule, and whether all below it belongs to it."""
    own = any(True for _ in _own(module)) or any(
        isinstance(each, BARE) for each in module.children()
    )
    if own:
        yield path, not _has_containers(module)
    for name, child in module.named_children():
        below = f"{path}.{name}".lstrip(".")
        if isinstance(module, CONTAINERS):
            yield below, True
        elif not own or _has_containers(child) or isinstance(child, CONTAINERS):
            yield from _units(child, below)


def _has_containers(module: nn.Module) -> bool:
    return any(isinstance(each, CONTAINERS) for each in module.modules() if each is not module)


def _own(module: nn.Module) -> Iterator[str]:
    for name, value in (*module._parameters.items(), *module._buffers.items()):
        if value is not None:
            yield name


def _names(module: nn.Module, path: str, *, whole: bool) -> Iterator[str]:
    """Names of a layer; without the containers below it if those are layers of their own."""
    prefix = f"{path}." if path else ""
    for name in _own(module):
        yield prefix + name
    for name, child in module.named_children():
        if whole or not (isinstance(child, CONTAINERS) or _has_containers(child)):
            yield from _names(child, prefix + name, whole=whole)
