"""Weights out of memory and back from their files, under the same tensors.

A storage is emptied and filled in place: tensors, views, tied weights and parameters keep the
object they are made of. A storage goes only if it is exactly what its file holds, compared byte for
byte: writes through `.data` leave no trace in the version that a tensor counts.
"""

from __future__ import annotations

import ctypes
import gc
import hashlib
import mmap
import os
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch

from zerostart_jupyter.core.errors import CheckpointChanged, LoadError
from zerostart_jupyter.core.references import Live, Reference

BLOCK = 16 << 20  # bytes compared or read at once by a thread
_THREADS = 8


@dataclass
class _Part:
    """One storage, where its bytes are on disk, and their digest."""

    name: str
    storage: torch.UntypedStorage
    reference: Reference
    digest: str


class HeldWeights:
    """See core.references.Held. `kept` are (name, why) of those that stay in memory."""

    def __init__(self, parts: Sequence[_Part], kept: Sequence[tuple[str, str]]) -> None:
        self._parts = list(parts)
        self._gone: list[_Part] = []
        self.kept = list(kept)
        self.bytes = sum(part.reference.length for part in parts)
        self.files: Sequence[Path] = sorted({part.reference.path for part in parts})

    def let_go(self) -> None:
        """Empty the storages; their memory is the device's again, not only the allocator's."""
        devices = {part.storage.device for part in self._parts}
        for device in devices:
            if device.type == "cuda":
                torch.cuda.synchronize(device)
        for part in self._parts:
            self._gone.append(part)
            part.storage.resize_(0)
        if any(device.type == "cuda" for device in devices):
            torch.cuda.empty_cache()

    def take_back(self) -> None:
        """Fill them again. One whose file changed stays empty: never another file's values.

        Raises CheckpointChanged or LoadError for the first; the others are whole.
        """
        gone, self._gone = self._gone, []
        error: Exception | None = None
        with ThreadPoolExecutor(_threads(len(gone))) as pool:
            for part, done in [(part, pool.submit(_fill, part)) for part in gone]:
                try:
                    done.result()
                except (OSError, RuntimeError, LoadError) as raised:
                    self._gone.append(part)
                    error = error or raised
        if error is None:
            return
        if isinstance(error, LoadError):
            raise error
        part = self._gone[0]
        raise LoadError(
            f"{part.name!r} could not be read back from {part.reference.path}: {error}.",
            remedy="Load the weights again.",
        ) from error


def hold(lives: Sequence[Live]) -> HeldWeights | None:
    """What of these can be let go of; None if nothing can. Reads it all, from memory and disk."""
    graphs = _captured_graphs()
    found: dict[int, tuple[str, torch.UntypedStorage, Reference]] = {}
    kept = []
    for live in lives:
        tensor = live.owner
        assert isinstance(tensor, torch.Tensor)
        storage = tensor.untyped_storage()
        if graphs:
            kept.append((live.name, "a captured CUDA graph has its address"))
        elif not storage.resizable() or storage.is_shared():
            kept.append((live.name, "its memory is not torch's own"))
        elif live.address != storage.data_ptr() or live.reference.length != storage.nbytes():
            kept.append((live.name, "its memory holds more than this tensor"))
        else:
            found.setdefault(storage._cdata, (live.name, storage, live.reference))
    parts = []
    with ThreadPoolExecutor(_threads(len(found))) as pool:
        asked = [(each, pool.submit(_compare, *each[1:])) for each in found.values()]
        for (name, storage, reference), done in asked:
            digest = done.result()
            if digest is None:
                kept.append((name, "it is not what its file holds"))
            else:
                parts.append(_Part(name, storage, reference, digest))
    return HeldWeights(parts, kept) if parts else None


def _compare(storage: torch.UntypedStorage, reference: Reference) -> str | None:
    """The digest of a storage that is exactly its file's bytes; None if it is not."""
    view, sha = _bytes_of(storage), hashlib.sha256()
    host = _scratch(reference)
    try:
        for start, block in _read(reference):
            here = host[: len(block)].copy_(view[start : start + len(block)])
            if not torch.equal(here, block):
                return None
            sha.update(_buffer(block))
    except OSError:
        return None
    return sha.hexdigest()


def _fill(part: _Part) -> None:
    reference, sha = part.reference, hashlib.sha256()
    if not reference.intact():
        raise _changed(reference)
    part.storage.resize_(reference.length)
    view = _bytes_of(part.storage)
    for start, block in _read(reference):
        view[start : start + len(block)].copy_(block)
        sha.update(_buffer(block))
    if sha.hexdigest() != part.digest:
        part.storage.resize_(0)
        raise _changed(reference)


def _read(reference: Reference) -> Iterator[tuple[int, torch.Tensor]]:
    """(offset, bytes) in a buffer that is used again; raises OSError if the file is short."""
    buffer = _scratch(reference)
    with open(reference.path, "rb", buffering=0) as file:
        for start in range(0, reference.length, BLOCK):
            block = buffer[: min(BLOCK, reference.length - start)]
            done = 0
            while done < len(block):
                rest = _buffer(block[done:])
                count = os.preadv(file.fileno(), [rest], reference.offset + start + done)
                if not count:
                    raise OSError("the file is shorter than it was")
                done += count
            yield start, block


def _scratch(reference: Reference) -> torch.Tensor:
    """A buffer of its own pages: the allocator would keep them, and a dump write them out."""
    return torch.frombuffer(mmap.mmap(-1, min(BLOCK, reference.length)), dtype=torch.uint8)


def _bytes_of(storage: torch.UntypedStorage) -> torch.Tensor:
    """The storage as bytes, with a version of its own: filling it is no change of a tensor."""
    return torch.empty(0, dtype=torch.uint8, device=storage.device).set_(storage)


def _buffer(block: torch.Tensor) -> memoryview:
    array = (ctypes.c_char * len(block)).from_address(block.data_ptr())
    return memoryview(array).cast("B")


def _threads(parts: int) -> int:
    return max(1, min(_THREADS, parts, len(os.sched_getaffinity(0))))


def _captured_graphs() -> bool:
    """Whether a CUDA graph lives: it was captured with addresses, and knows nothing of tensors."""
    module = sys.modules.get("torch.cuda.graphs")
    kind = getattr(module, "CUDAGraph", None)
    if kind is None:
        return False
    # Not isinstance: that asks proxies for their class, which may run code of theirs.
    return any(issubclass(type(each), kind) for each in gc.get_objects())


def _changed(reference: Reference) -> CheckpointChanged:
    return CheckpointChanged(
        f"{reference.path} is not the file any more that its weights were loaded from.",
        remedy="Bring that file back, or load the weights again.",
    )
