"""What a user named → the files it means: a file, an index, a directory, a hub id, an address."""

from __future__ import annotations

import contextlib
import json
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound, LoadError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import hub
from zerostart_jupyter.load.located import Located as Located
from zerostart_jupyter.load.naming import FORMATS, PICKLED, choose, missing, refuse_foreign
from zerostart_jupyter.load.near import nearer, readable

if TYPE_CHECKING:
    from zerostart_jupyter.load.remote import Repository, Website

INDEX_LIMIT = 100_000_000  # bytes; the largest known index has some 10 MB


def locate(source: str | Path, settings: Settings | None = None) -> Located:
    """Where a checkpoint's files are; what is not on this machine begins to arrive.

    Raises CheckpointNotFound, CheckpointInvalid, DownloadFailed, LoadError.
    """
    text = os.fspath(source)
    settings = settings or Settings.read()
    if re.match(r"https?://", text):
        return readable(_address(text, settings), settings)
    if re.match(r"(?!hf:)[a-z][a-z0-9+.-]*://", text):
        raise LoadError(
            f"{text} cannot be loaded: only http, https and hf addresses are read.",
            remedy="Download the file first and load it by its path.",
        )
    path = Path(text).expanduser()
    if path.is_dir():
        return _here(_directory(path, _title(path)), settings)
    if path.exists():
        return _here(_file(path), settings)
    known = hub.parse(text) if isinstance(source, str) else None
    if known is not None and _named_like_a_model(text):
        return _here(_repository(*known, settings), settings)
    raise CheckpointNotFound(f"There is no checkpoint at {text}.", remedy="Check the path.")


def _here(located: Located, settings: Settings) -> Located:
    if any(path.suffix in PICKLED for path in located.files):
        return readable(located, settings)  # which brings it near, too
    return located if located.arriving else nearer(located, settings)


def _named_like_a_model(text: str) -> bool:
    """Whether the hub is asked: not for what must be a file's name."""
    if text.startswith("hf://"):
        return True
    return not text.endswith((".json", *FORMATS))


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
        return _remote(repository, choose(repository.names, f"The model {name}"))


def _address(url: str, settings: Settings) -> Located:
    from zerostart_jupyter.load.remote import Remote

    known = hub.in_address(url)
    if known is not None and not known[2]:
        return _repository(known[0], known[1], settings)
    with Remote(settings) as remote:
        if known is not None:
            refuse_foreign(known[2])
            return _remote(remote.repository(*known[:2]), [known[2]])
        website = remote.address(url)
        refuse_foreign(website.title)
        return _remote(website, [""], index=website.title.endswith(".index.json"))


def _remote(
    source: Repository | Website, chosen: Sequence[str], *, index: bool | None = None
) -> Located:
    """The files of a checkpoint that is somewhere else, or those its index names."""
    if index is None:
        index = chosen[0].endswith(".index.json")
    if not index:
        got = source.fetch(chosen, whole=_pickled(source, chosen))
        files = tuple(got.files[name] for name in chosen)
        return Located(source.title, files, arriving=got.arriving, leases=got.leases)
    with contextlib.closing(source.fetch(chosen, whole=True)) as listed:
        promised = _promised(listed.files[chosen[0]])
    folder = chosen[0].rpartition("/")[0]
    paths = {shard: f"{folder}/{shard}".lstrip("/") for shard in sorted(set(promised.values()))}
    got = source.fetch(list(paths.values()), whole=_pickled(source, list(paths)))
    homes = {name: got.files[paths[shard]] for name, shard in promised.items()}
    files = tuple(got.files[path] for path in paths.values())
    return Located(source.title, files, homes, got.arriving, got.leases)


def _pickled(source: Repository | Website, names: Sequence[str]) -> bool:
    """Whether files must be here as a whole before anything can be read."""
    return any(PurePosixPath(name or source.title).suffix in PICKLED for name in names)


def _title(path: Path) -> str:
    return path.name or str(path.resolve())


def _file(path: Path) -> Located:
    if path.name.endswith(".index.json"):
        return _index(path, _title(path.resolve().parent))
    refuse_foreign(str(path))
    return Located(_title(path), (path,))


def _directory(path: Path, title: str) -> Located:
    chosen = choose([each.name for each in path.iterdir()], f"The directory {path}")
    if chosen[0].endswith(".index.json"):
        return _index(path / chosen[0], title)
    return Located(title, tuple(path / name for name in chosen))


def _index(path: Path, title: str) -> Located:
    promised = _promised(path)
    paths = {shard: path.parent / shard for shard in set(promised.values())}
    homes = {name: paths[shard] for name, shard in promised.items()}
    files = tuple(sorted(set(paths.values())))
    for shard_path in files:
        if not shard_path.exists():
            raise missing(shard_path.name, f"the directory {shard_path.parent}")
    return Located(title, files, homes)


def _promised(path: Path) -> dict[str, str]:
    """Which file an index promises each tensor in, relative to itself."""
    homes: dict[str, str] = {}
    known: set[str] = set()  # there are tens of thousands of tensors, and a few files
    for name, shard in _weight_map(path).items():
        if not isinstance(shard, str) or not (shard in known or _inside(shard)):
            raise _bad_index(path, f"it places {name!r} in {str(shard)[:60]!r}")
        known.add(shard)
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
