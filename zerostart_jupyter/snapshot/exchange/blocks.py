"""Blocks: so many bytes of a file, named by their sha256, compressed with zstd."""

from __future__ import annotations

import hashlib
import importlib
import sys
from typing import Any

from zerostart_jupyter.core.errors import SnapshotCorrupt

SIZE = 1 << 20  # bytes of a block, before compression
_LEVEL = 1  # 0.4 GB/s a core; higher ones gain little on memory


def name(data: bytes | memoryview) -> str:
    """What a block is called."""
    return hashlib.sha256(data).hexdigest()


def pack(data: bytes | memoryview) -> bytes:
    """Compressed."""
    return bytes(_zstd().compress(data, _LEVEL))


def unpack(data: bytes, limit: int) -> bytes:
    """What was compressed; raises SnapshotCorrupt if that is no zstd, or more than `limit`."""
    library = _zstd()
    try:
        decompressor = library.ZstdDecompressor()
        made = bytes(decompressor.decompress(data, max_length=limit + 1))
    except library.ZstdError as error:
        raise corrupt("a block cannot be unpacked") from error
    if len(made) > limit or not decompressor.eof or decompressor.unused_data:
        raise corrupt("a block is not as large as it says")
    return made


def checked(data: bytes, sha256: str, length: int) -> bytes:
    """A block, unpacked and compared with its name; raises SnapshotCorrupt."""
    made = unpack(data, length)
    if len(made) != length or name(made) != sha256:
        raise corrupt("a block is not what was written")
    return made


def corrupt(how: str) -> SnapshotCorrupt:
    """The error for an export that cannot be used."""
    return SnapshotCorrupt(
        f"This is no export that can be imported: {how}.",
        remedy="Nothing was imported. Export it again, or copy the file again.",
    )


def _zstd() -> Any:
    within = sys.version_info >= (3, 14)
    return importlib.import_module("compression.zstd" if within else "backports.zstd")
