"""The safetensors file of a snapshot, and storages made of it and of files of others."""

from __future__ import annotations

import contextlib
import hashlib
import importlib
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot.portable import tensors
from zerostart_jupyter.snapshot.portable.tensors import Part, Storages
from zerostart_jupyter.snapshot.portable.verified import Digest, Verified

_BLOCK = 8 << 20  # bytes read at once
_ALIGN = 64  # of the data in the file; safetensors asks for 8


def write(path: Path, storages: Storages, check: Callable[[], None]) -> tuple[Digest, list[Any]]:
    """Write all storages but what lies in files already; returns the file and what lies where."""
    held = tensors.parts(storages.all, check)
    table, described, at = {}, [], 0
    for key, storage in enumerate(storages.all):
        own = list(tensors.gaps(storage.nbytes(), held[key]))
        for offset, length in own:
            dtype, shape = tensors.tensor_type(storages.dtypes[key], length)
            table[f"storage-{key}@{offset}"] = {
                "dtype": dtype,
                "shape": shape,
                "data_offsets": [at, at + length],
            }
            at += length
        described.append(
            {
                "bytes": storage.nbytes(),
                "device": str(storage.device),
                "own": [list(each) for each in own],
                "parts": [asdict(each) for each in held[key]],
            }
        )
    header = json.dumps(table).encode()
    header += b" " * (-(len(header) + 8) % _ALIGN)
    sha = hashlib.sha256()
    with path.open("xb", buffering=0) as stream:
        for block in _content(header, storages, described):
            check()
            sha.update(block)
            view = memoryview(block)
            while view:
                view = view[stream.write(view) :]
        size = stream.tell()
    return Digest(size, sha.hexdigest()), described


def _content(
    header: bytes, storages: Storages, described: Sequence[Any]
) -> Iterator[bytes | memoryview]:
    yield len(header).to_bytes(8, "little")
    yield header
    for storage, about in zip(storages.all, described, strict=True):
        for offset, length in about["own"]:
            yield from tensors.blocks(storage, offset, length)


def read(path: Path, digest: Digest, described: Sequence[Any], check: Callable[[int], None]) -> Any:
    """All storages, in their order; where there is no such GPU, in main memory.

    Raises SnapshotCorrupt, and SnapshotRefused that names a file that is gone or has changed.
    """
    torch = importlib.import_module("torch")
    made = []
    with Verified.open(path, digest) as stream:
        stream.check = check
        stream.read(int.from_bytes(stream.read(8), "little"))
        for about in described:
            storage = torch.UntypedStorage(int(about["bytes"]))
            for offset, length in about["own"]:
                stream.fill(tensors.memory(storage.data_ptr() + offset, length))
            for each in about["parts"]:
                _from_file(storage, Part(**each), check)
            made.append(_placed(torch, storage, about["device"]))
    return made


def _placed(torch: Any, storage: Any, device: str) -> Any:
    if device == "cpu" or not torch.cuda.is_available():
        return storage
    number = int(device.partition(":")[2] or 0)
    return storage.cuda(number if number < torch.cuda.device_count() else 0)


def _from_file(storage: Any, part: Part, check: Callable[[int], None]) -> None:
    place = tensors.memory(storage.data_ptr() + part.offset, part.length)
    sha, done = hashlib.sha256(), 0
    with contextlib.suppress(OSError), open(part.path, "rb", buffering=0) as stream:
        stream.seek(part.start)
        while done < part.length:
            count = stream.readinto(place[done : done + _BLOCK])
            if not count:
                break
            sha.update(place[done : done + count])
            done += count
            check(count)
    if sha.hexdigest() != part.sha256:
        gone = "has changed" if Path(part.path).exists() else "is gone"
        raise SnapshotRefused(
            f"Weights of this snapshot lie in {part.path}, which {gone}.",
            remedy="Put that file back as it was, or load its successor and save again.",
        )
