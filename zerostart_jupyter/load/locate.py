"""What a user named → the files it means: a file, an index, a directory, a hub id."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound, LoadError
from zerostart_jupyter.load import hub

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
INDEX_LIMIT = 100_000_000  # bytes; the largest known index has some 10 MB

_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


@dataclass(frozen=True, slots=True)
class Located:
    """The shards in order; `homes` says which shard an index promises each tensor in."""

    title: str
    files: tuple[Path, ...]
    homes: Mapping[str, Path] | None = None


def locate(source: str | Path) -> Located:
    """Where a checkpoint's files are. Raises CheckpointNotFound, CheckpointInvalid, LoadError."""
    text = os.fspath(source)
    if re.match(r"(?!hf:)[a-z][a-z0-9+.-]*://", text):
        raise LoadError(
            f"{text} cannot be loaded: reading from a URL is not supported yet.",
            remedy="Download the file first and load it by its path.",
        )
    path = Path(text).expanduser()
    if path.is_dir():
        return _directory(path, _title(path))
    if path.exists():
        return _file(path)
    known = hub.parse(text) if isinstance(source, str) else None
    if known is not None and (directory := hub.snapshot(*known)) is not None:
        return _directory(directory, known[0])
    if known is not None and "/" in known[0] and not text.endswith(".safetensors"):
        raise CheckpointNotFound(
            f"{text} is neither a file or directory nor a model in the hub's cache.",
            remedy=f"Check the path, or download the model first: hf download {known[0]}",
        )
    raise CheckpointNotFound(f"There is no checkpoint at {text}.", remedy="Check the path.")


def _title(path: Path) -> str:
    return path.name or str(path.resolve())


def _file(path: Path) -> Located:
    if path.name.endswith(".index.json"):
        return _index(path, _title(path.resolve().parent))
    if path.suffix in _OTHER_FORMATS:
        raise _foreign(path)
    return Located(_title(path), (path,))


def _foreign(path: Path) -> CheckpointInvalid:
    return CheckpointInvalid(
        f"{path} is not a safetensors file.",
        remedy="Convert it once: safetensors.torch.save_file(torch.load(PATH), NEW_PATH).",
    )


def _directory(path: Path, title: str) -> Located:
    names = sorted(each.name for each in path.iterdir() if each.name.endswith(".safetensors"))
    indexes = sorted(each.name for each in path.iterdir() if each.name.endswith(".index.json"))
    if INDEX in indexes:
        return _index(path / INDEX, title)
    if SINGLE in names:
        return Located(title, (path / SINGLE,))
    indexes = [each for each in indexes if ".safetensors" in each]
    if len(indexes) == 1:
        return _index(path / indexes[0], title)
    if len(names) == 1:
        return Located(title, (path / names[0],))
    if not names:
        others = [each for each in sorted(path.iterdir()) if each.suffix in _OTHER_FORMATS]
        if others:
            raise _foreign(others[0])
        raise CheckpointNotFound(
            f"The directory {path} holds no safetensors file.", remedy="Check the path."
        )
    if not indexes and (whole := _numbered(path, names)) is not None:
        return Located(title, whole)
    choice = ", ".join((indexes or names)[:4])
    raise CheckpointInvalid(
        f"The directory {path} holds several checkpoints: {choice}.",
        remedy="Name the file, or the index, that you mean.",
    )


def _numbered(path: Path, names: list[str]) -> tuple[Path, ...] | None:
    """Shards named NAME-00001-of-0000N without an index, if they are one set."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    found = [match for match in matches if match is not None]
    if len(found) != len(names) or len({(match[1], match[3]) for match in found}) != 1:
        return None
    count = int(found[0][3])
    here = {int(match[2]) for match in found}
    for number in range(1, count + 1):
        if number not in here:
            raise _missing(path / f"{found[0][1]}-{number:05d}-of-{count:05d}.safetensors")
    return tuple(path / name for name in names)


def _missing(shard: Path) -> CheckpointNotFound:
    return CheckpointNotFound(
        f"The shard {shard.name} is missing in {shard.parent}.",
        remedy="Download the checkpoint again: a part of it did not arrive.",
    )


def _index(path: Path, title: str) -> Located:
    homes: dict[str, Path] = {}
    for name, shard in _weight_map(path).items():
        if not isinstance(shard, str) or not _inside(shard):
            raise _bad_index(path, f"it places {name!r} in {str(shard)[:60]!r}")
        homes[name] = path.parent / shard
    files = tuple(sorted(set(homes.values())))
    for shard_path in files:
        if not shard_path.exists():
            raise _missing(shard_path)
    return Located(title, files, homes)


def _weight_map(path: Path) -> Mapping[str, Any]:
    try:
        if path.stat().st_size > INDEX_LIMIT:
            raise _bad_index(path, f"it has more than {INDEX_LIMIT} bytes")
        body = json.loads(path.read_bytes())
    except OSError as error:
        raise LoadError(
            f"The index {path} cannot be read: {error.strerror}.",
            remedy="Check the path and its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise _bad_index(path, f"it is not JSON: {error}") from error
    weight_map = body.get("weight_map") if isinstance(body, dict) else None
    if not isinstance(weight_map, dict):
        raise _bad_index(path, "it has no weight_map")
    return weight_map


def _bad_index(path: Path, reason: str) -> CheckpointInvalid:
    return CheckpointInvalid(
        f"The index {path} is not valid: {reason}.",
        remedy="Download it again, or load the shards by name.",
    )


def _inside(name: str) -> bool:
    parts = PurePosixPath(name)
    return bool(name) and not parts.is_absolute() and ".." not in parts.parts and "\0" not in name
