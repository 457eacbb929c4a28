"""What a user named → the files it means: a file, an index, a directory, a hub id, an address."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound, LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Lease
from zerostart_jupyter.load import filesystem, hub
from zerostart_jupyter.load.arriving import Arriving

if TYPE_CHECKING:
    from zerostart_jupyter.load.remote import Repository, Website

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
INDEX_LIMIT = 100_000_000  # bytes; the largest known index has some 10 MB

_NUMBERED = re.compile(r"(.+)-(\d{5})-of-(\d{5})\.safetensors")
_OTHER_FORMATS = (".bin", ".pt", ".pth", ".ckpt", ".gguf", ".h5", ".msgpack", ".onnx")


@dataclass(frozen=True, slots=True)
class Located:
    """The shards in order; `homes` says which shard an index promises each tensor in.

    `arriving` are those of the files whose bytes are still to come; `close()` gives them up.
    """

    title: str
    files: tuple[Path, ...]
    homes: Mapping[str, Path] | None = None
    arriving: Mapping[Path, Arriving] = field(default_factory=dict)
    leases: Sequence[Lease] = ()

    def close(self) -> None:
        """Let go of what is still to come."""
        for each in self.arriving.values():
            each.close()
        self.opened()

    def opened(self) -> None:
        """The files are open: those of our cache may be evicted from now on."""
        for each in self.leases:
            each.close()


def locate(source: str | Path, settings: Settings | None = None) -> Located:
    """Where a checkpoint's files are; what is not on this machine begins to arrive.

    Raises CheckpointNotFound, CheckpointInvalid, DownloadFailed, LoadError.
    """
    text = os.fspath(source)
    if re.match(r"https?://", text):
        return _address(text, settings or Settings.read())
    if re.match(r"(?!hf:)[a-z][a-z0-9+.-]*://", text):
        raise LoadError(
            f"{text} cannot be loaded: only http, https and hf addresses are read.",
            remedy="Download the file first and load it by its path.",
        )
    path = Path(text).expanduser()
    if path.is_dir():
        return _nearer(_directory(path, _title(path)), settings)
    if path.exists():
        return _nearer(_file(path), settings)
    known = hub.parse(text) if isinstance(source, str) else None
    if known is not None and _named_like_a_model(text):
        located = _repository(*known, settings or Settings.read())
        return located if located.arriving else _nearer(located, settings)
    raise CheckpointNotFound(f"There is no checkpoint at {text}.", remedy="Check the path.")


def _nearer(located: Located, settings: Settings | None) -> Located:
    """The same files, but those on a network file system read through copies of ours."""
    if not any(_far(path) for path in located.files):
        return located
    from zerostart_jupyter.load.cache import ModelCache

    cache = ModelCache(settings=settings)
    near: dict[Path, Path] = {}
    arriving: dict[Path, Arriving] = {}
    leases: list[Lease] = []
    try:
        # In one order in every process: two that copy the same files must not wait in a circle.
        for path in sorted(located.files, key=lambda each: each.resolve()):
            found = cache.nearer(path)
            near[path] = path if found is None else found.path
            if isinstance(found, Arriving):
                arriving[found.path] = found
            elif found is not None:
                leases.append(found.lease)
    except BaseException:
        Located(located.title, (), None, arriving, leases).close()
        raise
    homes = located.homes and {name: near[path] for name, path in located.homes.items()}
    files = tuple(near[path] for path in located.files)
    return Located(located.title, files, homes, arriving, leases)


def _far(path: Path) -> bool:
    with contextlib.suppress(OSError):  # whoever opens it will say what is wrong
        return filesystem.of_path(path).network
    return False


def _named_like_a_model(text: str) -> bool:
    """Whether the hub is asked: not for what must be a file's name."""
    if text.startswith("hf://"):
        return True
    return not text.endswith((".safetensors", ".json", *_OTHER_FORMATS))


def _repository(name: str, revision: str, settings: Settings) -> Located:
    """A model of the hub; what was downloaded before is used where the hub cannot be asked."""
    here = hub.snapshot(name, revision)
    if here is not None and hub.commit(name, revision) == revision:  # a commit never changes
        with contextlib.suppress(LoadError):
            return _directory(here, name)
    if hub.offline():
        if here is not None:
            return _directory(here, name)
        raise CheckpointNotFound(
            f"{name} is neither a file or directory nor a model in the hub's cache, and "
            "HF_HUB_OFFLINE is set.",
            remedy=f"Check the path, or unset it, or: hf download {name}",
        )
    from zerostart_jupyter.load.remote import Remote

    with Remote(settings, hurried=here is not None) as remote:
        try:
            repository = remote.repository(name, revision)
        except LoadError:
            if here is None:
                raise
            with contextlib.suppress(LoadError):
                return _directory(here, name)
            raise
        return _remote(repository, _choose(repository.names, f"The model {name}"))


def _address(url: str, settings: Settings) -> Located:
    from zerostart_jupyter.load.remote import Remote

    known = hub.in_address(url)
    if known is not None and not known[2]:
        return _repository(known[0], known[1], settings)
    with Remote(settings) as remote:
        if known is not None:
            return _remote(remote.repository(*known[:2]), [known[2]])
        website = remote.address(url)
        return _remote(website, [""], index=website.title.endswith(".index.json"))


def _remote(
    source: Repository | Website, chosen: Sequence[str], *, index: bool | None = None
) -> Located:
    """The files of a checkpoint that is somewhere else, or those its index names."""
    if index is None:
        index = chosen[0].endswith(".index.json")
    if not index:
        got = source.fetch(chosen)
        files = tuple(got.files[name] for name in chosen)
        return Located(source.title, files, arriving=got.arriving, leases=got.leases)
    with contextlib.closing(source.fetch(chosen, whole=True)) as listed:
        promised = _promised(listed.files[chosen[0]])
    folder = chosen[0].rpartition("/")[0]
    paths = {shard: f"{folder}/{shard}".lstrip("/") for shard in sorted(set(promised.values()))}
    got = source.fetch(list(paths.values()))
    homes = {name: got.files[paths[shard]] for name, shard in promised.items()}
    files = tuple(got.files[path] for path in paths.values())
    return Located(source.title, files, homes, got.arriving, got.leases)


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
    chosen = _choose([each.name for each in path.iterdir()], f"The directory {path}")
    if chosen[0].endswith(".index.json"):
        return _index(path / chosen[0], title)
    return Located(title, tuple(path / name for name in chosen))


def _choose(names: Sequence[str], where: str) -> list[str]:
    """The index, or the files, that are the checkpoint of a place; those in folders are others'."""
    if len(names) == 1:
        if PurePosixPath(names[0]).suffix in _OTHER_FORMATS:
            raise _foreign(Path(names[0]))
        return list(names)
    files = sorted(name for name in names if "/" not in name)
    weights = [name for name in files if name.endswith(".safetensors")]
    indexes = [name for name in files if name.endswith(".index.json")]
    if INDEX in indexes:
        return [INDEX]
    if SINGLE in weights:
        return [SINGLE]
    indexes = [name for name in indexes if ".safetensors" in name]
    if len(indexes) == 1:
        return indexes
    if len(weights) == 1:
        return weights
    if not weights:
        others = [name for name in files if PurePosixPath(name).suffix in _OTHER_FORMATS]
        if others:
            raise _foreign(Path(others[0]))
        raise CheckpointNotFound(f"{where} holds no safetensors file.", remedy="Check the path.")
    if not indexes and (whole := _numbered(weights, where)) is not None:
        return whole
    choice = ", ".join((indexes or weights)[:4])
    raise CheckpointInvalid(
        f"{where} holds several checkpoints: {choice}.",
        remedy="Name the file, or the index, that you mean.",
    )


def _numbered(names: Sequence[str], where: str) -> list[str] | None:
    """Shards named NAME-00001-of-0000N without an index, if they are one set."""
    matches = [_NUMBERED.fullmatch(name) for name in names]
    found = [match for match in matches if match is not None]
    if len(found) != len(names) or len({(match[1], match[3]) for match in found}) != 1:
        return None
    count = int(found[0][3])
    here = {int(match[2]) for match in found}
    for number in range(1, count + 1):
        if number not in here:
            raise _missing(f"{found[0][1]}-{number:05d}-of-{count:05d}.safetensors", where)
    return list(names)


def _missing(shard: str, where: str) -> CheckpointNotFound:
    return CheckpointNotFound(
        f"The shard {shard} is missing in {where[:1].lower()}{where[1:]}.",
        remedy="Download the checkpoint again: a part of it did not arrive.",
    )


def _index(path: Path, title: str) -> Located:
    homes = {name: path.parent / shard for name, shard in _promised(path).items()}
    files = tuple(sorted(set(homes.values())))
    for shard_path in files:
        if not shard_path.exists():
            raise _missing(shard_path.name, f"the directory {shard_path.parent}")
    return Located(title, files, homes)


def _promised(path: Path) -> dict[str, str]:
    """Which file an index promises each tensor in, relative to itself."""
    homes: dict[str, str] = {}
    for name, shard in _weight_map(path).items():
        if not isinstance(shard, str) or not _inside(shard):
            raise _bad_index(path, f"it places {name!r} in {str(shard)[:60]!r}")
        homes[name] = shard
    return homes


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
