"""A table of measured cases and the machine they were measured on, in three notations."""

from __future__ import annotations

import html
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True, slots=True)
class Case:
    """One case: seconds of ours and of a peer, each the list of its rounds."""

    name: str
    ours: tuple[float, ...]
    peer: str
    theirs: tuple[float, ...]
    note: str = ""

    @property
    def ratio(self) -> float:
        """How many times faster than the peer we were, by medians; below 1 the peer won."""
        return statistics.median(self.theirs) / statistics.median(self.ours)

    def as_json(self) -> dict[str, Any]:
        """Every round, so that the spread can be seen."""
        return {
            "name": self.name,
            "ours": list(self.ours),
            "peer": self.peer,
            "theirs": list(self.theirs),
            "ratio": self.ratio,
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """The cases of one run."""

    title: str
    cases: tuple[Case, ...]
    versions: dict[str, str]
    machine: dict[str, str] = field(default_factory=lambda: machine())
    pictures: tuple[str, ...] = ()  # SVG

    def as_json(self) -> dict[str, Any]:
        """One object: title, machine, versions, cases."""
        return {
            "title": self.title,
            "machine": self.machine,
            "versions": self.versions,
            "cases": [case.as_json() for case in self.cases],
        }

    def markdown(self) -> str:
        """A table for docs/benchmarks."""
        head = ["case", "ours", "peer", "theirs", "ratio", "note"]
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row) + " |" for row in self._rows()]
        about = ", ".join(
            f"{key} {value}" for key, value in {**self.machine, **self.versions}.items()
        )
        return f"# {self.title}\n\n{about}\n\n" + "\n".join(lines) + "\n"

    def html(self) -> str:
        """The same as a page of its own."""
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in self._rows()
        )
        about = html.escape(str({**self.machine, **self.versions}))
        return (
            f"<!doctype html><meta charset=utf-8><title>{html.escape(self.title)}</title>"
            "<style>body{font:16px system-ui;margin:2em}td,th{padding:.3em 1em;text-align:left}"
            f"</style><h1>{html.escape(self.title)}</h1><p>{about}</p><table>"
            "<tr><th>case<th>ours<th>peer<th>theirs<th>ratio<th>note</tr>"
            f"{rows}</table>{''.join(self.pictures)}"
        )

    def _rows(self) -> list[list[str]]:
        return [
            [
                case.name,
                spread(case.ours),
                case.peer,
                spread(case.theirs),
                f"{case.ratio:.2f}",
                case.note,
            ]
            for case in self.cases
        ]


def spread(rounds: Sequence[float]) -> str:
    """Median and range of seconds: 1.23 s (1.10-1.40)."""
    return f"{statistics.median(rounds):.3g} s ({min(rounds):.3g}-{max(rounds):.3g})"


def machine() -> dict[str, str]:
    """What the figures depend on: cores, memory, kernel, Python."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return {
        "cores": str(os.cpu_count()),
        "memory": f"{memory / (1 << 30):.0f} GiB",
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(*distributions: str) -> dict[str, str]:
    """Versions of these distributions, "absent" where there is none."""
    found = {}
    for name in distributions:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "absent"
    return found
