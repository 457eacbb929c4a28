"""What can be imported from a wheel, told from its file names before a byte of it is here."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES

_SUFFIXES = (*EXTENSION_SUFFIXES, *SOURCE_SUFFIXES)


@dataclass(frozen=True, slots=True)
class ImportNames:
    """The dotted names a distribution brings, each with the names one level below it.

    A root is a top-level module or package; inside a namespace package it is the first thing
    that belongs to this distribution alone, `nvidia.cudnn` say.
    """

    roots: dict[str, frozenset[str]] = field(default_factory=dict)

    @property
    def tops(self) -> frozenset[str]:
        """The first part of every root."""
        return frozenset(root.partition(".")[0] for root in self.roots)


def import_names(paths: Iterable[str]) -> ImportNames:
    """The names that files at these places below site-packages can be imported as.

    Where a `.pth` file may put a directory on `sys.path`, what no package encloses can also be
    imported by the end of its name.
    """
    paths = list(paths)
    split = [path.split("/") for path in paths]
    packages = {
        tuple(parts[:-1]) for parts in split if len(parts) > 1 and _module(parts[-1]) == "__init__"
    }
    roots: dict[str, set[str]] = {}
    for parts in split:
        folders = parts[:-1]
        if "__pycache__" in folders or not all(folder.isidentifier() for folder in folders):
            continue
        depth = next(
            (n for n in range(1, len(parts)) if tuple(parts[:n]) in packages),
            None,
        )
        module = _module(parts[-1])
        if depth is not None:
            below = parts[depth] if depth < len(folders) else module
        elif module is not None:
            folders, depth, below = [*folders, module], len(parts), None
        elif folders:  # data in a namespace package: libraries that others open by path
            depth, below = min(len(folders), 2), None
        else:
            continue
        names = roots.setdefault(".".join(folders[:depth]), set())
        if below is not None and below != "__init__":
            names.add(below)
    if any(path.endswith(".pth") and "/" not in path for path in paths):
        for root in list(roots):
            rest = root
            while rest := rest.partition(".")[2]:
                roots.setdefault(rest, set()).update(roots[root])
    return ImportNames({root: frozenset(below) for root, below in roots.items()})


def _module(name: str) -> str | None:
    for suffix in _SUFFIXES:
        if name.endswith(suffix):
            stem = name.removesuffix(suffix)
            return stem if stem.isidentifier() else None
    return None
