"""What tensors lie in: written to a safetensors file, or as a reference to the file they came from.

Tensors pickle themselves, as views of storages; so what they share stays shared. Only the storages
are ours. Nothing here imports torch: where there is a tensor, somebody has.
"""

from __future__ import annotations

import ctypes
import hashlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.references import Live, references
from zerostart_jupyter.snapshot.portable import marks
from zerostart_jupyter.snapshot.portable.reasons import Unsaveable

FILE = "tensors.safetensors"
_BLOCK = 8 << 20  # bytes copied at once
_DTYPES = {
    **{"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "bool": "BOOL"},
    **{"int64": "I64", "int32": "I32", "int16": "I16", "int8": "I8", "uint8": "U8"},
}


@dataclass(frozen=True, slots=True)
class Part:
    """`length` bytes at `offset` of a storage that lie in somebody else's file, at `start`."""

    offset: int
    length: int
    path: str
    start: int
    sha256: str


class Storages:
    """The storages one pass has met, each once, and what is left behind with them."""

    def __init__(self) -> None:
        self.all: list[Any] = []
        self.dtypes: list[str] = []
        self._keys: dict[int, int] = {}

    def reduce(self, value: Any) -> Any:
        """How a storage, or a tensor with a gradient, is written; NotImplemented for all else."""
        torch: Any = sys.modules.get("torch")
        if torch is None or not hasattr(torch, "UntypedStorage"):
            return NotImplemented
        if isinstance(value, torch.Tensor):
            return self._tensor(value)
        if isinstance(value, torch.storage.TypedStorage):
            untyped, dtype = value._untyped_storage, value.dtype
            key = self._key(untyped, str(dtype).removeprefix("torch."))
            return marks.typed, (self.all[key], dtype)
        if isinstance(value, torch.UntypedStorage):
            return marks.storage, (self._key(value, "uint8"),)
        return NotImplemented

    def lost(self, value: Any) -> str | None:
        """What of a tensor is not saved with it."""
        torch: Any = sys.modules.get("torch")
        tensor = getattr(torch, "Tensor", None)
        if tensor is not None and isinstance(value, tensor) and value.grad_fn is not None:
            return "a tensor comes back without the operations that made it"
        return None

    def _tensor(self, value: Any) -> Any:
        if not value.is_leaf or value.grad is None:
            return NotImplemented
        made = value.__reduce_ex__(5)
        if len(made) != 2:
            return NotImplemented
        return (*made, value.grad, None, None, marks.set_gradient)

    def _key(self, storage: Any, dtype: str) -> int:
        if storage.device.type not in ("cpu", "cuda"):
            raise Unsaveable(f"a tensor on {storage.device.type}")
        key = self._keys.get(storage._cdata)
        if key is None:
            key = self._keys[storage._cdata] = len(self.all)
            self.all.append(storage)
            self.dtypes.append(dtype)
        return key


def parts(storages: list[Any], check: Callable[[], None]) -> list[list[Part]]:
    """For each storage what of it the register of references knows, where file and memory agree."""
    known = sorted(references().live(), key=lambda live: live.address)
    return [list(_parts(each, known, check)) for each in storages]


def _parts(storage: Any, known: list[Live], check: Callable[[], None]) -> Iterator[Part]:
    begin, end = storage.data_ptr(), storage.data_ptr() + storage.nbytes()
    reached = begin
    for live in known:
        origin, at = live.reference, live.address
        same = live.device.split(":")[0] == storage.device.type and origin.length
        if not same or not reached <= at <= at + origin.length <= end:
            continue
        sha = hashlib.sha256()
        for block in blocks(storage, at - begin, origin.length):
            check()
            sha.update(block)
        digest = sha.hexdigest()
        # Written to through a view that torch knows nothing of, it would be another's content.
        if _of_file(origin.path, origin.offset, origin.length, check) == digest:
            reached = at + origin.length
            yield Part(at - begin, origin.length, str(origin.path), origin.offset, digest)


def blocks(storage: Any, offset: int, length: int) -> Iterator[memoryview]:
    """A storage's bytes, piece by piece; those of a GPU come through a small copy."""
    torch: Any = sys.modules["torch"]
    for done in range(offset, offset + length, _BLOCK):
        count = min(_BLOCK, offset + length - done)
        if storage.device.type == "cpu":
            yield memory(storage.data_ptr() + done, count)
        else:
            flat = torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)
            piece = flat[done : done + count].cpu()
            yield memory(piece.data_ptr(), count)


def memory(address: int, count: int) -> memoryview:
    """So many bytes of this process."""
    return memoryview((ctypes.c_char * count).from_address(address)).cast("B")


def gaps(size: int, held: list[Part]) -> Iterator[tuple[int, int]]:
    """(offset, length) of what no part of a storage covers."""
    reached = 0
    for each in held:
        if each.offset > reached:
            yield reached, each.offset - reached
        reached = each.offset + each.length
    if reached < size:
        yield reached, size - reached


def tensor_type(dtype: str, length: int) -> tuple[str, list[int]]:
    """How safetensors describes a run of bytes: as the elements they are, or as bytes."""
    name = _DTYPES.get(dtype, "U8")
    size = {"BOOL": 1, "BF16": 2}.get(name) or int(name[1:]) // 8
    return (name, [length // size]) if length % size == 0 else ("U8", [length])


def _of_file(path: Path, offset: int, length: int, check: Callable[[], None]) -> str:
    sha = hashlib.sha256()
    try:
        with path.open("rb", buffering=0) as stream:
            stream.seek(offset)
            while length:
                check()
                block = stream.read(min(_BLOCK, length))
                if not block:
                    return ""
                sha.update(block)
                length -= len(block)
    except OSError:
        return ""
    return sha.hexdigest()
