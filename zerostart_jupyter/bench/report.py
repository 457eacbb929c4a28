"""A table of measured cases and the machine they were measured on, in three notations."""

from __future__ import annotations

import html
import importlib.metadata
import os
import platform
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from zerostart_jupyter.core.errors import SettingsError


@dataclass(frozen=True, slots=True)
class Case:
    """One case: what ours and a peer took in each round; seconds unless `unit` says otherwise.

    `ours_cpu` and `theirs_cpu` are CPU seconds of those rounds; `failed` and `peer_failed` are the
    reasons of rounds that came to nothing; `load` is the load average before the first round;
    `floor` is what nobody can be faster than, such as the disk alone, measured in the same rounds.
    """

    name: str
    ours: tuple[float, ...]
    peer: str
    theirs: tuple[float, ...]
    note: str = ""
    unit: str = "s"
    ours_cpu: tuple[float, ...] = ()
    theirs_cpu: tuple[float, ...] = ()
    failed: tuple[str, ...] = ()
    peer_failed: tuple[str, ...] = ()
    load: float | None = None
    floor: tuple[float, ...] = ()

    @property
    def ratio(self) -> float | None:
        """How many times faster than the peer we were, by medians; below 1 the peer won. None
        where one of the two has no figures."""
        if not self.ours or not self.theirs:
            return None
        return statistics.median(self.theirs) / statistics.median(self.ours)

    @property
    def possible(self) -> float | None:
        """The ratio if ours took no longer than the floor: no more can be had on this machine."""
        if not self.floor or not self.theirs:
            return None
        return statistics.median(self.theirs) / statistics.median(self.floor)

    def joined(self, later: Case) -> Case:
        """The same case with the rounds of both runs, and the greater load."""
        lists = ("ours", "theirs", "ours_cpu", "theirs_cpu", "failed", "peer_failed", "floor")
        both = {name: getattr(self, name) + getattr(later, name) for name in lists}
        loads = [each for each in (self.load, later.load) if each is not None]
        return replace(later, **both, load=max(loads, default=None))

    def as_json(self) -> dict[str, Any]:
        """Every round, so that the spread can be seen."""
        return {**asdict(self), "ratio": self.ratio, "possible": self.possible}

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Case:
        """What `as_json` gave."""
        values: dict[str, Any] = {
            name: tuple(value) if isinstance(value, list) else value
            for name, value in body.items()
            if name in {each.name for each in fields(cls)}
        }
        return cls(**values)


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
        head, rows = self._table()
        lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
        lines += ["| " + " | ".join(row).replace("\n", " ") + " |" for row in rows]
        about = ", ".join(
            f"{key} {value}" for key, value in {**self.machine, **self.versions}.items()
        )
        return f"# {self.title}\n\n{about}\n\n" + "\n".join(lines) + "\n"

    def html(self) -> str:
        """The same as a page of its own."""
        head, body = self._table()
        rows = "".join(
            "<tr>" + "".join(f"<td>{html.escape(cell)}</td>" for cell in row) + "</tr>"
            for row in body
        )
        about = html.escape(str({**self.machine, **self.versions}))
        return (
            f"<!doctype html><meta charset=utf-8><title>{html.escape(self.title)}</title>"
            "<style>body{font:16px system-ui;margin:2em}td,th{padding:.3em 1em;text-align:left}"
            f"</style><h1>{html.escape(self.title)}</h1><p>{about}</p><table>"
            f"<tr><th>{'<th>'.join(head)}</tr>"
            f"{rows}</table>{''.join(self.pictures)}"
        )

    def including(self, earlier: Mapping[str, Any]) -> Report:
        """With the rounds of an earlier run's `as_json`, on the same machine with the same
        versions. Raises SettingsError where these differ."""
        for name in ("machine", "versions"):
            if earlier[name] != getattr(self, name):
                raise SettingsError(
                    f"The earlier run had another {name}: {earlier[name]}.",
                    remedy="Measure all rounds under the same conditions.",
                )
        found = {(each.name, each.peer): each for each in map(Case.from_json, earlier["cases"])}
        for case in self.cases:
            key = case.name, case.peer
            found[key] = found[key].joined(case) if key in found else case
        return replace(self, cases=tuple(found.values()))

    def _table(self) -> tuple[list[str], list[list[str]]]:
        head = ["case", "ours", "peer", "theirs", "ratio"]
        cpu = any(case.ours_cpu for case in self.cases)
        load = any(case.load is not None for case in self.cases)
        floor = any(case.floor for case in self.cases)
        head += ["at most", "floor"] * floor
        head += ["CPU s, ours / theirs"] * cpu + ["load"] * load + ["note"]
        rows = []
        for case in self.cases:
            row = [case.name, spread(case.ours, case.unit, case.failed), case.peer]
            row.append(spread(case.theirs, case.unit, case.peer_failed))
            row.append("" if case.ratio is None else f"{case.ratio:.2f}")
            if floor:
                row.append("" if case.possible is None else f"{case.possible:.2f}")
                row.append(spread(case.floor) if case.floor else "")
            if cpu:
                both = case.ours_cpu, case.theirs_cpu
                row.append(" / ".join(map(_middle, both)) if any(both) else "")
            if load:
                row.append("" if case.load is None else f"{case.load:.1f}")
            rows.append([*row, case.note])
        return head, rows


def spread(rounds: Sequence[float], unit: str = "s", failed: Sequence[str] = ()) -> str:
    """Median and range: 1.23 s (1.10-1.40); rounds that failed are counted."""
    words = []
    if rounds:
        words.append(
            f"{statistics.median(rounds):.3g} {unit} ({min(rounds):.3g}-{max(rounds):.3g})"
        )
    if failed:
        words.append(f"failed {len(failed)} of {len(failed) + len(rounds)}: {failed[0]}")
    return "; ".join(words)


def _middle(rounds: Sequence[float]) -> str:
    return f"{statistics.median(rounds):.3g}" if rounds else "-"


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
