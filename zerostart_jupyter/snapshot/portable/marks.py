"""What a portable snapshot's pickles name instead of data: called while they are read.

The names are part of the format. Those that need what is being restored are replaced by methods
of the `unpickling.Reader`.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from typing import Any, NoReturn


def array(key: int) -> NoReturn:
    """The array of `arrays/<key>.npy`."""
    raise RuntimeError("only a reader knows the arrays")


def storage(key: int) -> NoReturn:
    """The torch.UntypedStorage of this number."""
    raise RuntimeError("only a reader knows the storages")


def view(
    base: Any, offset: int, shape: Sequence[int], strides: Sequence[int], dtype: Any, writes: bool
) -> Any:
    """An array that lies in another one, `offset` bytes from its beginning."""
    numpy: Any = sys.modules["numpy"]
    flat = base.ravel(order="K") if base.ndim != 1 else base
    made = numpy.ndarray(shape, dtype, buffer=flat, offset=offset, strides=strides)
    if not writes:
        made.setflags(write=False)
    return made


def typed(untyped: Any, dtype: Any) -> Any:
    """The torch.TypedStorage that torch's own functions take."""
    torch: Any = sys.modules["torch"]
    return torch.storage.TypedStorage(wrap_storage=untyped, dtype=dtype, _internal=True)


def set_gradient(tensor: Any, gradient: Any) -> None:
    """Give a tensor back what was accumulated for it."""
    tensor.grad = gradient


def cell() -> types.CellType:
    """A cell of a closure, empty for now: what it holds may need the function it belongs to."""
    return types.CellType()


def set_cell(made: types.CellType, held: tuple[Any, ...]) -> None:
    """Fill it, unless it was empty."""
    if held:
        made.cell_contents = held[0]


def function(
    code: types.CodeType, names: dict[str, Any], name: str, closure: tuple[types.CellType, ...]
) -> types.FunctionType:
    """A function of the notebook: its globals are the notebook's own names."""
    return types.FunctionType(code, names, name, None, closure)


def set_function(
    made: types.FunctionType, state: tuple[Mapping[str, Any], Mapping[str, Any]]
) -> None:
    """Defaults, annotations, and whatever somebody has put on the function."""
    attributes, known = state
    for name, value in known.items():
        setattr(made, name, value)
    made.__dict__.update(attributes)


def output(name: str) -> Any:
    """The stream that is sys.stdout, or another of sys, by then."""
    return getattr(sys, name)
