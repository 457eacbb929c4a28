"""A cell that failed to import something is told which distribution has it, and offered that.

Nothing is asked of an index before the user agrees: what a person imports is nobody's business,
and a name that happens to exist there may be anybody's. What the table knows is said as a fact;
any other name is said to be a guess.
"""

from __future__ import annotations

import contextlib
import functools
import importlib.util
import re
import shlex
import sys
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from zerostart_jupyter.jupyter.where import has_display

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from zerostart_jupyter.jupyter.config import Zerostart

MIME = "application/vnd.zerostart.missing+json"
_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9_]*")
_TABLE = Path(__file__).with_name("import_names.txt")
# Lines that bring a module where its distribution came after the interpreter's start.
_FIRST = {"distutils": "import setuptools"}


@dataclass(frozen=True, slots=True)
class Offer:
    """The distribution that would bring a module; `known` is False for a guess by its name.

    A module that later versions left out has a requirement in its place: `setuptools<82`.
    """

    module: str
    distribution: str
    known: bool

    def __str__(self) -> str:
        command = f"`%zs_install {shlex.quote(self.distribution)}`"
        if self.known:
            then = f"`{self._first}` and this cell" if self._first else "this cell again"
            return f"{self.module} is in {self.distribution}: run {command}, then {then}."
        return (
            f"No distribution is known to have {self.module}. If it is {self.distribution}, which "
            f"is a guess by its name, run {command}, then this cell again."
        )

    def bundle(self) -> dict[str, Any]:
        """What is displayed: as text, and for the panel where its one click is enough."""
        text = {"text/plain": str(self)}
        return text if self._first else {MIME: asdict(self), **text}

    @property
    def _first(self) -> str | None:
        return _FIRST.get(self.module.partition(".")[0])


def offer(module: str) -> Offer | None:
    """What to offer for a module that could not be found; None if nothing is to be said.

    Nothing is said of a module below one that is there, of the standard library, of a namespace
    that many share, and of a distribution that is installed: those lack something else.
    """
    parts = module.split(".")
    for depth in range(len(parts), 0, -1):
        known = _known().get(".".join(parts[:depth]))
        if known is not None:
            return None if known == "-" or _installed(known) else Offer(module, known, True)
    top = parts[0]
    if not _PLAIN.fullmatch(top) or top in sys.stdlib_module_names or _present(top):
        return None
    guess = top.replace("_", "-")
    return None if _installed(guess) else Offer(module, guess, False)


class MissingImports:
    """Displays the offer after a cell that failed so, unless a setting says no."""

    def __init__(self, shell: InteractiveShell, config: Zerostart) -> None:
        self._shell = shell
        self._config = config

    def open(self) -> None:
        """Look at the cells that fail from now on."""
        self._shell.events.register("post_run_cell", self._look)

    def close(self) -> None:
        """Look no more."""
        self._shell.events.unregister("post_run_cell", self._look)

    def _look(self, result: Any) -> None:
        error = result.error_in_exec
        if not isinstance(error, ModuleNotFoundError) or not error.name:
            return
        found = offer(error.name)
        if found is None or self._config.settings().no_import_offers:
            return
        if has_display():
            from IPython.display import display

            display(found.bundle(), raw=True)
        else:
            print(found)


@functools.cache
def _known() -> dict[str, str]:
    lines = _TABLE.read_text(encoding="utf-8").splitlines()
    words = (line.partition(" ") for line in lines if not line.startswith("#"))
    return {name: distribution for name, _, distribution in words}


def _present(top: str) -> bool:
    with contextlib.suppress(ImportError, ValueError):
        return importlib.util.find_spec(top) is not None
    return top in sys.modules


def _installed(requirement: str) -> bool:
    from importlib.metadata import PackageNotFoundError, version

    from packaging.requirements import Requirement

    wanted = Requirement(requirement)
    try:
        return wanted.specifier.contains(version(wanted.name), prereleases=True)
    except PackageNotFoundError:
        return False
