"""safetensors' own interface over our reading: what libraries call while they are accelerated.

Those libraries open all files of a checkpoint first and ask for its tensors afterwards. So what
one thread opens in one directory is read as one checkpoint, from the first tensor on that is
asked for. A tensor asked for in part says that this process wants a share only: from then on each
is read when it is asked for, and only so much of it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import safetensors
import safetensors.torch
import torch

from zerostart_jupyter.core.errors import Cancelled, LoadError
from zerostart_jupyter.core.references import FileIdentity
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import loader, slicing, tensors
from zerostart_jupyter.load.checkpoint import Checkpoint, Entry, joined, open_located
from zerostart_jupyter.load.located import Located
from zerostart_jupyter.load.near import brought, far, nearer
from zerostart_jupyter.load.slicing import Window
from zerostart_jupyter.load.weights import Weights

Name = str | os.PathLike[str]


def safe_open(filename: Name, framework: str, device: Any = "cpu", **options: Any) -> Any:
    """What `safetensors.safe_open` returns, reading ahead.

    What cannot be read better here is left to safetensors: other frameworks and devices, and
    files that are missing or invalid, so that its errors stay its own.
    """
    if framework in ("pt", "torch") and device == "cpu" and options.get("backend") != "pread":
        with contextlib.suppress(LoadError):
            return OpenFile(Path(filename))
    return safetensors.safe_open(filename, framework, device, **options)


def load_file(filename: Name, device: Any = "cpu", **options: Any) -> dict[str, torch.Tensor]:
    """What `safetensors.torch.load_file` returns, read by us where that is possible."""
    if options.get("backend") != "pread":
        with contextlib.suppress(LoadError):
            place = loader.resolve_device(str(device))
            return dict(loader.begin(_open(Path(filename), nearer), device=place))
    found = safetensors.torch.load_file(filename, device, **options)
    assert isinstance(found, dict)
    return found


class OpenFile:
    """One file, opened: names and shapes at once, bytes when they are asked for."""

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self.checkpoint = _open(self.path)
        self.entries = dict(self.checkpoint.entries)
        self._metadata = dict(self.checkpoint.metadata)
        self._closed = False
        self._near: Checkpoint | None = None
        self._bringing = threading.Lock()
        weakref.finalize(self, self.checkpoint.close)
        self._batch = _join(self)

    def near(self) -> Checkpoint:
        """Where tensors are read: in a copy, if the file is far away and there is room for one."""
        with self._bringing:
            if self._near is None:
                self._near = self._brought() or self.checkpoint
            return self._near

    def _brought(self) -> Checkpoint | None:
        if not far(self.path):
            return None
        # A library may have opened it for its metadata alone, so it is not copied before.
        with contextlib.suppress(LoadError, OSError):
            checkpoint = _open(self.path, brought)
            weakref.finalize(self, checkpoint.close)
            if FileIdentity.of(self.path) == self.checkpoint.shards[0].identity:
                return checkpoint
        return None  # then it is read where it is

    def keys(self) -> list[str]:
        """The names, sorted."""
        self._check()
        return sorted(self.entries)

    def offset_keys(self) -> list[str]:
        """The names in the order of their bytes."""
        self._check()
        return list(self.entries)

    def metadata(self) -> dict[str, str] | None:
        """The strings beside the tensors, None if there are none."""
        self._check()
        return dict(self._metadata) or None

    def get_tensor(self, name: str) -> torch.Tensor:
        """The tensor, once it was read; raises SafetensorError if there is none of that name."""
        return self.get_slice(name)[...]

    def get_tensors(self) -> dict[str, torch.Tensor]:
        """All tensors, once they were read."""
        return {name: self.get_tensor(name) for name in self.offset_keys()}

    def get_slice(self, name: str) -> Slice:
        """A tensor that is read when it is indexed; that may be after the file was closed."""
        self._check()
        if name not in self.entries:
            raise safetensors.SafetensorError(f"File does not contain tensor {name}")
        return Slice(self, self.entries[name])

    def __enter__(self) -> OpenFile:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed = True
        self._batch.leave(self)

    def _check(self) -> None:
        if self._closed:
            raise safetensors.SafetensorError("File is closed")


class Slice:
    """A tensor of an open file, not read yet; indexing gives what it gives of a tensor."""

    def __init__(self, file: OpenFile, entry: Entry) -> None:
        self._file = file
        self._entry = entry

    def get_shape(self) -> list[int]:
        """The shape as the file has it."""
        return list(self._entry.shape)

    def get_dtype(self) -> str:
        """The dtype as the file names it."""
        return self._entry.dtype

    def __getitem__(self, index: Any) -> torch.Tensor:
        entry, batch = self._entry, self._file._batch
        shape = tensors.shape_of(entry, self._file.checkpoint.shards[0])
        window = slicing.window(shape, index)
        if window is None or window.whole:
            return batch.whole(self._file, entry)[index]
        return batch.part(self._file, entry, window)


class _Batch:
    """Files that are read as one checkpoint, from the first tensor on that is asked for."""

    def __init__(self, file: OpenFile) -> None:
        self._folder = file.path.parent
        self._files: list[weakref.ref[OpenFile]] = []  # they know us: no circle, no collector
        self._names: set[str] = set()
        self._open = 0
        self._lock = threading.Lock()
        self._begun = False
        self._weights: Weights | None = None
        self._alone = False  # each tensor when it is asked for, as nothing is read ahead any more
        self.admit(file)

    def admit(self, file: OpenFile) -> bool:
        """Take one more file, unless it is of another checkpoint."""
        with self._lock:
            if self._begun or self._alone or file.path.parent != self._folder:
                return False
            if not self._names.isdisjoint(file.entries):
                return False
            self._files.append(weakref.ref(file))
            self._names.update(file.entries)
            self._open += 1
        return True

    def leave(self, file: OpenFile) -> None:
        """A file was closed; when it was the last one, nobody is read ahead for."""
        with self._lock:
            self._open -= 1
            if not self._begun:
                self._files = [each for each in self._files if each() is not file]
                self._names.difference_update(file.entries)
            last = self._open == 0
        if last:
            self._stop()

    def whole(self, file: OpenFile, entry: Entry) -> torch.Tensor:
        """A tensor, waited for."""
        weights = self._ahead()
        if weights is not None and entry.name in weights:
            try:
                return weights[entry.name]
            except Cancelled:
                if not self._alone:
                    raise
        return loader.read_one(file.near(), entry)

    def part(self, file: OpenFile, entry: Entry, window: Window) -> torch.Tensor:
        """A part of a tensor, and no more of it."""
        self._stop()
        shard = file.checkpoint.shards[0]
        return loader.read_one(
            file.near(), slicing.cut(entry, window, tensors.dtype_of(entry, shard).itemsize)
        )

    def _ahead(self) -> Weights | None:
        with self._lock:
            if not self._begun and not self._alone:
                files = [file for each in self._files if (file := each()) is not None]
                parts = [file.near() for file in files]
                self._begun = True
                self._weights = loader.begin(
                    joined(_title(self._folder), parts),
                    device="cpu",
                    background=True,
                    awaited=True,
                )
                weakref.finalize(self, self._weights.cancel)
            return None if self._alone else self._weights

    def _stop(self) -> None:
        with self._lock:
            self._alone = True
            weights, self._weights = self._weights, None
        if weights is not None:
            weights.cancel()


class _Opening(threading.local):
    """The batch that this thread's next file may belong to."""

    batch: weakref.ref[_Batch] | None = None


_opening = _Opening()


def _join(file: OpenFile) -> _Batch:
    batch = _opening.batch() if _opening.batch is not None else None
    if batch is None or not batch.admit(file):
        batch = _Batch(file)
        _opening.batch = weakref.ref(batch)
    return batch


def _open(
    path: Path, near: Callable[[Located, Settings], Located] = lambda located, _: located
) -> Checkpoint:
    checkpoint = open_located(near(Located(path.name, (path,)), Settings.read()))
    try:
        tensors.refuse_unknown(checkpoint)
    except BaseException:
        checkpoint.close()
        raise
    return checkpoint


def _title(folder: Path) -> str:
    """The model's name: a snapshot of the hub's cache is named by its commit."""
    repository = folder.parent.parent.name
    if folder.parent.name == "snapshots" and repository.startswith("models--"):
        return repository.removeprefix("models--").replace("--", "/")
    return folder.name
