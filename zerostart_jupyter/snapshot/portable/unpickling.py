"""Reads the names back: all of them, or none."""

from __future__ import annotations

import io
import pickle
from collections.abc import Iterator, Sequence
from typing import Any

from zerostart_jupyter.core.errors import SnapshotCorrupt, SnapshotRefused, ZerostartError
from zerostart_jupyter.snapshot.portable import marks


class Reader:
    """`given` are the objects the writer had in their place; `arrays` and `storages` the data."""

    def __init__(
        self,
        data: bytes,
        given: Sequence[object],
        arrays: Sequence[Any],
        storages: Sequence[Any],
        buffers: Sequence[bytearray],
    ) -> None:
        self._unpickler = _Unpickler(_memoizing(len(given)) + data, buffers, arrays, storages)
        self._unpickler.given = given
        self._unpickler.load()

    def names(self, wanted: Sequence[str]) -> Iterator[tuple[str, Any]]:
        """Each name with its value; raises SnapshotRefused that tells which could not be made."""
        for name in wanted:
            try:
                value = self._unpickler.load()
            except ZerostartError:
                raise
            except Exception as error:
                raise SnapshotRefused(
                    f"{name!r} cannot be made again here: {type(error).__name__}: {error}",
                    remedy="Nothing was changed. Install the versions it was saved with.",
                ) from error
            yield name, value


class _Unpickler(pickle.Unpickler):
    given: Sequence[object] = ()

    def __init__(
        self,
        data: bytes,
        buffers: Sequence[bytearray],
        arrays: Sequence[Any],
        storages: Sequence[Any],
    ) -> None:
        super().__init__(io.BytesIO(data), buffers=iter(buffers))
        self._own = {"array": arrays, "storage": storages}

    def persistent_load(self, key: Any) -> Any:
        return self.given[key]

    def find_class(self, module: str, name: str) -> Any:
        if module == marks.__name__ and name in self._own:
            return _lookup(self._own[name])
        return super().find_class(module, name)


def _memoizing(count: int) -> bytes:
    """A pickle that puts what is given into the memo; assigning a dict to it does nothing."""
    each = b"".join(bytes((*b"K", at, *b"Q\x940")) for at in range(count))
    return b"\x80\x05" + each + b"N."


def _lookup(held: Sequence[Any]) -> Any:
    def find(key: int) -> Any:
        try:
            return held[key]
        except (IndexError, TypeError) as error:
            raise SnapshotCorrupt(
                "The snapshot's names point at data it has not got.",
                remedy="Delete the snapshot and save it again.",
            ) from error

    return find
