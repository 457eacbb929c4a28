"""transformers and diffusers, reading through us.

Each opens safetensors files by a name in one of its modules; that name is replaced while
accelerated. All else stays theirs: renaming, merging, quantisation, tying, dtypes. A module that
is not imported yet is changed when it is: one finder stays on `sys.meta_path` from the first time
on, as popping it while another thread iterates would make that thread skip one.
"""

from __future__ import annotations

import importlib
import importlib.abc
import sys
import threading
import warnings
from collections.abc import Callable, Sequence
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

from zerostart_jupyter.core.errors import LoadError


class Acceleration:
    """What `accelerate()` returns; as a context manager it puts back what was before."""

    def __init__(self, before: bool) -> None:
        self._before = before

    def __enter__(self) -> Acceleration:
        _switch.turn(True)
        return self

    def __exit__(self, *_: object) -> None:
        _switch.turn(self._before)

    def __repr__(self) -> str:
        if not _switch.on:
            return "<Acceleration: off>"
        libraries = sorted({name.partition(".")[0] for name, _ in _switch.replaced})
        now = " and ".join(libraries) or "transformers and diffusers, once they are imported,"
        return f"<Acceleration: {now} read through zerostart>"


def accelerate() -> Acceleration:
    """Make `from_pretrained` of transformers and diffusers read through zerostart from now on.

    A second call changes nothing. `decelerate()` puts everything back; `with accelerate():` does
    so by itself, and may be nested. Raises LoadError where a library has changed too much.
    """
    before = _switch.on
    try:
        _switch.turn(True)
    except BaseException:
        _switch.turn(before)
        raise
    return Acceleration(before)


def decelerate() -> None:
    """Let the libraries read by themselves again; does nothing if they do already."""
    _switch.turn(False)


def _safe_open(genuine: Any) -> Any:
    from zerostart_jupyter.load import drop_in

    return drop_in.safe_open


def _safetensors(genuine: Any) -> Any:
    """The package as diffusers uses it, but for one function."""
    from zerostart_jupyter.load import drop_in

    return _Over(genuine, torch=_Over(genuine.torch, load_file=drop_in.load_file))


# module -> the name in it that is replaced, and what makes the replacement of the genuine value
_NAMES: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "transformers.modeling_utils": ("safe_open", _safe_open),
    "transformers.modeling_layers": ("safe_open", _safe_open),
    "diffusers.models.model_loading_utils": ("safetensors", _safetensors),
}
# Of these the name is only looked for: not every version reads there.
_OPTIONAL = frozenset({"transformers.modeling_layers"})


class _Over(ModuleType):
    """A module with some of its attributes replaced."""

    def __init__(self, under: ModuleType, **over: Any) -> None:
        super().__init__(under.__name__, under.__doc__)
        self.__dict__.update(over, _under=under)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["_under"], name)


class _Switch:
    """Whether libraries are accelerated, and what to put back."""

    def __init__(self) -> None:
        self.on = False
        self.replaced: dict[tuple[str, str], tuple[Any, Any]] = {}
        self._lock = threading.RLock()

    def turn(self, on: bool) -> None:
        """Replace the names in every module that is imported, or put them back."""
        with self._lock:
            if on and _finder not in sys.meta_path:
                sys.meta_path.insert(0, _finder)
            self.on = on
            if not on:
                self._put_back()
        if on:
            for name in _NAMES:
                if name in sys.modules:
                    # Not from there: another thread may be in the middle of importing it.
                    self.change(importlib.import_module(name))

    def change(self, module: ModuleType) -> None:
        """Replace the name in one module, if we are on."""
        name, make = _NAMES[module.__name__]
        with self._lock:
            if not self.on or self._ours(module, name):
                return
            genuine = getattr(module, name, None)
            if genuine is None:
                if module.__name__ in _OPTIONAL:
                    return
                raise LoadError(
                    f"{module.__name__} has no {name!r} any more: its version is not known here.",
                    remedy="Update zerostart, or do without accelerate().",
                )
            ours = make(genuine)
            self.replaced[module.__name__, name] = (genuine, ours)
            setattr(module, name, ours)

    def _ours(self, module: ModuleType, name: str) -> bool:
        _, ours = self.replaced.get((module.__name__, name), (None, None))
        return ours is not None and getattr(module, name, None) is ours

    def _put_back(self) -> None:
        for (module_name, name), (genuine, ours) in self.replaced.items():
            module = sys.modules.get(module_name)
            # Somebody who replaced it after us keeps what is theirs.
            if module is not None and getattr(module, name, None) is ours:
                setattr(module, name, genuine)
        self.replaced.clear()


class _Finder(importlib.abc.MetaPathFinder):
    """Sees the modules imported that are to be changed; the others find them."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        """The spec the other finders give, with a loader that changes the module at the end."""
        if not _switch.on or fullname not in _NAMES:
            return None
        for finder in list(sys.meta_path):
            spec = None if finder is self else finder.find_spec(fullname, path, target)
            if spec is not None:
                if spec.loader is not None:
                    spec.loader = _Loader(spec.loader)
                return spec
        return None


class _Loader(importlib.abc.Loader):
    """Loads as the genuine loader, which the module keeps, and changes the module."""

    def __init__(self, genuine: importlib.abc.Loader) -> None:
        self._genuine = genuine

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        """The genuine loader's module."""
        return self._genuine.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        """Run it, then change it."""
        if module.__spec__ is not None:
            module.__spec__.loader = self._genuine
        module.__loader__ = self._genuine
        self._genuine.exec_module(module)
        try:
            _switch.change(module)
        except LoadError as error:  # the library works without us: its import must not fail
            warnings.warn(str(error), RuntimeWarning, stacklevel=2)


_finder = _Finder()
_switch = _Switch()
