"""The whole table, or the rows of it that were asked for."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable, Sequence

from zerostart_jupyter import __version__
from zerostart_jupyter.bench.install import nginx
from zerostart_jupyter.bench.install.rows import ROWS
from zerostart_jupyter.bench.install.turns import Failed
from zerostart_jupyter.bench.install.wheels import fetch
from zerostart_jupyter.bench.report import Case, Report
from zerostart_jupyter.core.errors import SettingsError
from zerostart_jupyter.install.resolve import find_uv

SETS = tuple(dict.fromkeys(row.set for row in ROWS))


def measure(
    rounds: int, note: Callable[[str], None], *, sets: Sequence[str] = (), only: str = ""
) -> Report:
    """The rows of these sets, all by default, whose name has `only` in it. Raises SettingsError
    for a set that there is not."""
    if unknown := sorted(set(sets) - set(SETS)):
        raise SettingsError(
            f"There is no set {unknown[0]!r} to install.", remedy=f"Choose of {', '.join(SETS)}."
        )
    possible = nginx.capability()
    cases: list[Case] = []
    for row in ROWS:
        if sets and row.set not in sets:
            continue
        if row.link.tls and not possible:
            note(f"Left out: {row.what}; {row.link}. {possible.reason} {possible.remedy}")
            continue
        fetched = fetch(row.wheels, note)
        title = row.title(fetched)
        if only in title and rounds:
            note(title)
            try:
                cases += row.cases(fetched, rounds, note)
            except Failed as error:  # before its first round; the other rows are still wanted
                note(f"  failed: {error}")
                cases.append(Case(title, (), "", (), row.wanted, failed=(str(error),)))
    return Report("Installing, beside uv", tuple(cases), _versions())


def _versions() -> dict[str, str]:
    said = subprocess.run([find_uv(), "--version"], capture_output=True, text=True, check=True)
    number = re.search(r"\d+(\.\d+)+\S*", said.stdout)
    uv = number[0] if number else said.stdout
    return {"zerostart-jupyter": __version__, "uv": uv, "nginx": nginx.version()}
