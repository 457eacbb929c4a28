"""A pickler that knows where it is: the notebook's names, its arrays, its tensors.

cloudpickle does what a module of somebody else does best: code, classes, closures of libraries.
What is ours on top of it: functions of the notebook keep the notebook's own names as their globals
and share their cells; arrays keep what they share; data goes beside the pickle; and what means
nothing in another process is refused by what it is.
"""

from __future__ import annotations

import io
import pickle
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from zerostart_jupyter.snapshot.portable import marks
from zerostart_jupyter.snapshot.portable.arrays import Arrays
from zerostart_jupyter.snapshot.portable.reasons import Unsaveable, examiner, words
from zerostart_jupyter.snapshot.portable.tensors import Storages

PICKLE = "names.pickle"
BUFFERS = "buffers.bin"
PROTOCOL = 5
_OUT_OF_BAND = 64 << 10  # bytes from which on a buffer lies beside the pickle
_OUTPUTS = ("stdout", "stderr", "stdin")
_FUNCTION = ("__defaults__", "__kwdefaults__", "__annotations__", "__doc__", "__module__")
_FUNCTION_NAMES = (*_FUNCTION, "__qualname__")


class Found:
    """What one pass over the names has found.

    `modules` are needed to read it, `code` says whether bytecode is in it, `changed` what will be
    different (name, how); `buffers` are the lengths in `buffers.bin`.
    """

    def __init__(self) -> None:
        self.modules: set[str] = set()
        self.code = False
        self.changed: list[tuple[str, str]] = []
        self.buffers: list[int] = []


class Failed(Exception):
    """This name cannot be saved, for this reason."""

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(name, reason)
        self.name = name
        self.reason = reason


class Writer:
    """One pass. `given` are objects that the reader has too: the names, the shell, its lists.

    `directory` None writes nothing: it only finds out what can be saved.
    """

    def __init__(
        self,
        cloudpickle: Any,
        names: dict[str, Any],
        given: Sequence[object],
        directory: Path | None,
        check: Callable[[], None],
    ) -> None:
        self.found = Found()
        self.arrays = Arrays(None if directory is None else directory / "arrays", check)
        self.storages = Storages()
        self._name = ""
        self._names = names
        self._check = check
        self._examine = examiner()
        self._sink: BinaryIO | _Nowhere = _Nowhere()
        self._beside: BinaryIO | None = None
        if directory is not None:
            self._sink = (directory / PICKLE).open("xb")
            self._beside = (directory / BUFFERS).open("xb")
        self._pickler = _pickler(cloudpickle, self)
        self._pickler.memo = {id(each): (at, each) for at, each in enumerate(given)}

    def add(self, name: str, value: object) -> None:
        """One frame; raises Failed, after which this pass is of no use."""
        self._check()
        self._name = name
        try:
            self._pickler.dump(value)
        except Exception as error:
            raise Failed(name, words(error, value)) from error

    def close(self) -> None:
        """Close the files."""
        for each in (self._sink, self._beside):
            if each is not None:
                each.close()

    def write(self, data: bytes) -> int:
        """What the pickler writes to."""
        return self._sink.write(data)

    def beside(self, buffer: pickle.PickleBuffer) -> bool:
        """Put a large buffer beside the pickle, without a copy; False says it was."""
        try:
            raw = buffer.raw()
        except BufferError:  # not contiguous
            return True
        with raw:
            if raw.nbytes < _OUT_OF_BAND:
                return True
            if self._beside is not None:
                self._check()
                self._beside.write(raw)
            self.found.buffers.append(raw.nbytes)
        return False

    def reduce(self, value: Any) -> Any:
        """How an object is written; NotImplemented leaves it to cloudpickle."""
        kind = type(value)
        if kind is types.FunctionType:
            return self._function(value)
        if kind is types.CellType:
            return self._cell(value)
        if kind is types.CodeType:
            self.found.code = True
            return NotImplemented
        if isinstance(value, types.ModuleType):
            if value.__spec__ is not None:
                self.found.modules.add(value.__name__)
            return NotImplemented
        for name in _OUTPUTS:
            if value is getattr(sys, name):
                return marks.output, (name,)
        made = self.arrays.reduce(value)
        if made is NotImplemented:
            made = self.storages.reduce(value)
        how = self.storages.lost(value)
        if how and (self._name, how) not in self.found.changed:
            self.found.changed.append((self._name, how))
        if made is not NotImplemented:
            self.found.modules.add("numpy" if "numpy" in kind.__module__ else "torch")
            return made
        reason = self._examine(value)
        if reason is not None:
            raise Unsaveable(reason)
        return NotImplemented

    def by_reference(self, value: Any) -> None:
        """Note the module of a class or function that the reader will import."""
        module = getattr(value, "__module__", None)
        if isinstance(module, str) and module in sys.modules:
            self.found.modules.add(module)

    def _function(self, value: types.FunctionType) -> Any:
        if value.__globals__ is not self._names:
            return NotImplemented
        state = {name: getattr(value, name) for name in _FUNCTION_NAMES}
        return (
            marks.function,
            (value.__code__, self._names, value.__name__, value.__closure__),
            (dict(value.__dict__), state),
            *(None, None),
            marks.set_function,
        )

    def _cell(self, value: types.CellType) -> Any:
        try:
            held: tuple[Any, ...] = (value.cell_contents,)
        except ValueError:
            held = ()
        return marks.cell, (), held, None, None, marks.set_cell


class _Nowhere(io.RawIOBase):
    def write(self, data: Any) -> int:
        return len(data)


def _pickler(cloudpickle: Any, writer: Writer) -> Any:
    # Made when it is needed: a class at module level would keep cloudpickle imported.
    class Pickler(cloudpickle.Pickler):  # type: ignore[misc]
        def reducer_override(self, value: Any) -> Any:
            made = writer.reduce(value)
            if made is NotImplemented:
                made = super().reducer_override(value)
                if made is NotImplemented and isinstance(
                    value, type | types.FunctionType | types.BuiltinFunctionType
                ):
                    writer.by_reference(value)
            return made

    return Pickler(writer, protocol=PROTOCOL, buffer_callback=writer.beside)
