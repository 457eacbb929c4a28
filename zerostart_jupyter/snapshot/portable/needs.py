"""The modules that what was pickled is made of, and the distributions that bring them."""

from __future__ import annotations

import functools
import importlib
import importlib.metadata
import sys
from collections.abc import Iterable, Mapping

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import installed

_OURS = "zerostart_jupyter"
_NAMED = 4  # things a message lists before it only counts
Needs = Mapping[str, tuple[str, str] | None]


def of(modules: Iterable[str]) -> dict[str, tuple[str, str] | None]:
    """Each module with its distribution and version; None for the notebook's own files."""
    wanted = {name for name in modules if not _given(name)}
    tops = {name.partition(".")[0] for name in wanted}
    homes = _homes(installed.digest()) if tops else {}
    found: dict[str, tuple[str, str] | None] = {}
    for name in sorted(wanted):
        distributions = homes.get(name.partition(".")[0], [])
        if distributions:
            version = importlib.metadata.version(distributions[0])
            found[name] = (distributions[0], version)
        else:
            found[name] = None
    return found


def bring(needs: Needs) -> list[str]:
    """Import them all; returns what has another version than it had, in words.

    Raises SnapshotRefused that names what is missing and how to install it.
    """
    missing, wrong = {}, []
    for name, home in needs.items():
        try:
            importlib.import_module(name)
        except ImportError as error:
            missing[name] = (home, error)
    if missing:
        raise _refusal(missing)
    for home in sorted({home for home in needs.values() if home is not None}):
        try:
            present = importlib.metadata.version(home[0])
        except importlib.metadata.PackageNotFoundError:
            continue
        if present != home[1]:
            wrong.append(f"{home[0]} is {present} here, it was {home[1]}")
    return wrong


def _refusal(missing: Mapping[str, tuple[tuple[str, str] | None, ImportError]]) -> SnapshotRefused:
    wanted = sorted({f"{home[0]}=={home[1]}" for home, _ in missing.values() if home})
    files = sorted({name.partition(".")[0] for name, (home, _) in missing.items() if home is None})
    names = sorted(missing)
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    steps = []
    if wanted:
        steps.append(f"Run `%zs_install {' '.join(wanted)}`, then restore again.")
    if files:
        steps.append(f"Put {', '.join(f'{name}.py' for name in files)} beside the notebook.")
    return SnapshotRefused(
        f"This snapshot needs {', '.join(names[:_NAMED])}{more}, which cannot be imported here.",
        remedy=" ".join(steps),
    )


@functools.lru_cache(maxsize=1)
def _homes(state: str) -> Mapping[str, list[str]]:
    """Distributions by what they can be imported as; read anew when something was installed."""
    return importlib.metadata.packages_distributions()


def _given(name: str) -> bool:
    top = name.partition(".")[0]
    return top in sys.stdlib_module_names or top in (_OURS, "__main__", "cloudpickle")
