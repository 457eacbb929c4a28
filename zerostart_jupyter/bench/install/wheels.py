"""Sets of real wheels, pinned: fetched once with this machine's own index settings, then served."""

from __future__ import annotations

import contextlib
import hashlib
import os
import shutil
import threading
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit

from zerostart_jupyter.core.errors import DigestMismatch
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.core.wording import size
from zerostart_jupyter.install import gather, plan
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.lock import Locked, interpreter
from zerostart_jupyter.install.source import HttpSource

_PINS = Path(__file__).with_name("pins")
_KNOWN = "set"  # a file that says which pins and which interpreter a folder is for

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class WheelSet:
    """Wheels that satisfy `specs` and nothing else: what a person would type, and what comes."""

    name: str
    specs: tuple[str, ...]
    modules: tuple[str, ...] = ()  # what a notebook would import of it, the first one first

    @property
    def pins(self) -> tuple[str, ...]:
        """Every distribution of the set with its version."""
        lines = (_PINS / f"{self.name}.txt").read_text().splitlines()
        return tuple(line for line in lines if line and not line.startswith("#"))


@dataclass(frozen=True, slots=True)
class Fetched:
    """A set whose wheels lie in `folder`."""

    about: WheelSet
    folder: Path

    @property
    def count(self) -> int:
        """How many wheels."""
        return sum(1 for _ in self.folder.glob("*.whl"))

    @property
    def nbytes(self) -> int:
        """Bytes of all wheels."""
        return sum(path.stat().st_size for path in self.folder.glob("*.whl"))


ONE = WheelSet("one", ("nvidia-cublas-cu12",))
FIVE = WheelSet(
    "five",
    (
        *("nvidia-cudnn-cu12", "nvidia-cublas-cu12", "nvidia-nccl-cu12"),
        *("nvidia-cusparselt-cu12", "triton"),
    ),
)
TORCH = WheelSet("torch", ("torch",), ("torch",))
SCIENCE = WheelSet(
    "science",
    (
        *("numpy", "scipy", "pandas", "pyarrow", "scikit-learn", "matplotlib", "networkx"),
        *("sympy", "pillow", "jupyterlab", "notebook", "seaborn", "statsmodels", "requests"),
        *("rich", "pytest"),
    ),
    ("numpy",),
)
TINY = WheelSet(
    "tiny",
    (
        *("idna", "six", "certifi", "attrs", "packaging"),
        *("tomli", "zipp", "pluggy", "iniconfig", "wcwidth"),
    ),
)
SETS = {each.name: each for each in (ONE, FIVE, TORCH, SCIENCE, TINY)}


def home() -> Path:
    """Where the wheels are kept, in zerostart's cache."""
    return Store(Settings.read().cache).path("tools", "bench-wheels")


def fetch(wanted: WheelSet, note: Note) -> Fetched:
    """The set, from this machine's index or from what was fetched before.

    Raises NetworkError where a wheel cannot be had.
    """
    folder = home() / wanted.name
    pool = home() / "pool"  # sets share wheels
    known = "\n".join([*interpreter(), *wanted.pins])
    said = folder / _KNOWN
    if said.exists() and said.read_text() == known:
        return Fetched(wanted, folder)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    pool.mkdir(exist_ok=True)
    request = gather(list(wanted.pins))
    indexes = read_indexes(request.index)
    packages = plan(request, activate=False).lock.packages
    connections = Connections(indexes, Settings.read().http_timeout)
    with contextlib.closing(connections):
        for locked in packages:
            path = pool / locked.wheel
            if not path.exists():
                note(f"Fetching {locked.wheel}{f', {size(locked.size)}' if locked.size else ''}.")
                _fetch(locked, path, connections)
            os.link(path, folder / locked.wheel)
    said.write_text(known)
    return Fetched(wanted, folder)


def _fetch(locked: Locked, path: Path, connections: Connections) -> None:
    part = path.with_suffix(".part")
    if locked.url.startswith("file:"):
        shutil.copyfile(unquote(urlsplit(locked.url).path), part)
    else:
        with open(part, "wb") as file:

            def write(at: int, block: memoryview) -> None:
                file.seek(at)
                file.write(block)

            HttpSource(connections, locked.url, threading.Event()).spool(write)
    with open(part, "rb") as whole:
        digest = hashlib.file_digest(whole, "sha256").hexdigest()
    if locked.sha256 and digest != locked.sha256:
        part.unlink()
        raise DigestMismatch(
            f"{locked.wheel} is not the file that the index promised.", remedy="Try again."
        )
    part.rename(path)
