"""The rows of the table: which wheels over which link, who is compared, how often."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.bench.install import clients, kernel, memory, subjects, wheels
from zerostart_jupyter.bench.install.servers import Index, Link, served
from zerostart_jupyter.bench.install.subjects import OURS, UV
from zerostart_jupyter.bench.install.turns import Sample, Subject, Turn, take_turns
from zerostart_jupyter.bench.install.wheels import Fetched, WheelSet
from zerostart_jupyter.bench.report import Case, versions

PACE = 25_000_000  # bytes a second on each connection
CUT = 60_000_000  # bytes
TRIP = 0.02  # seconds
QUICK = 4  # times as many rounds of what takes less than a second

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Ground:
    """What a row is measured on."""

    title: str
    fetched: Fetched
    index: Index
    rounds: int
    wanted: str
    note: Note
    load: float  # before it began

    def turn(self, scratch: Path) -> Turn:
        """A turn in this directory."""
        return Turn(self.index, self.fetched.about.specs, scratch)


@dataclass(frozen=True, slots=True)
class Row:
    """`what` may speak of {count} and {size}; `wanted` is what the figure should come to."""

    set: str
    what: str
    wheels: WheelSet
    link: Link
    measure: Callable[[Ground], list[Case]]
    wanted: str = ""

    def title(self, fetched: Fetched) -> str:
        """How the row is called."""
        megabytes = fetched.nbytes / 1e6
        size = f"{megabytes / 1e3:.1f} GB" if megabytes >= 1000 else f"{megabytes:.0f} MB"
        return f"{self.what.format(count=fetched.count, size=size)}; {self.link}"

    def cases(self, fetched: Fetched, rounds: int, note: Note) -> list[Case]:
        """The row, measured."""
        with served(fetched.folder, self.link) as index:
            load = os.getloadavg()[0]
            title = self.title(fetched)
            return self.measure(Ground(title, fetched, index, rounds, self.wanted, note, load))


def compared(
    who: Mapping[str, Subject], *, times: int = 1, peer: str = UV
) -> Callable[[Ground], list[Case]]:
    """One case: ours and uv by turns."""

    def measure(ground: Ground) -> list[Case]:
        taken = take_turns(
            who, ground.rounds * times, ground.fetched.folder.parent, ground.turn, ground.note
        )
        ours, theirs = taken[OURS], taken[UV]
        return [
            Case(
                ground.title,
                ours.seconds,
                peer,
                theirs.seconds,
                ground.wanted,
                ours_cpu=ours.cpu,
                theirs_cpu=theirs.cpu,
                failed=tuple(ours.failures),
                peer_failed=tuple(theirs.failures),
                load=ground.load,
            )
        ]

    return measure


def peak_memory(ground: Ground) -> list[Case]:
    """MiB over a bare interpreter, and uv's over nothing."""

    def ours(turn: Turn) -> Sample:
        return Sample((memory.peak(turn, subjects.ours(turn)) - memory.bare(turn)) / (1 << 20))

    def uv(turn: Turn) -> Sample:
        return Sample(memory.peak(turn, subjects.uv(turn)) / (1 << 20))

    who = {OURS: Subject(ours), UV: Subject(uv)}
    taken = take_turns(who, ground.rounds, ground.fetched.folder.parent, ground.turn, ground.note)
    found = taken[OURS].seconds, taken[UV].seconds
    return [Case(ground.title, found[0], UV, found[1], ground.wanted, unit="MiB", load=ground.load)]


def warm_cell(ground: Ground) -> list[Case]:
    """Seconds over an empty cell."""
    with tempfile.TemporaryDirectory(prefix="zerostart-bench-") as name:
        found = kernel.warm_cells(ground.turn(Path(name)), ground.rounds)
    return [Case(ground.title, tuple(found), "", (), ground.wanted, load=ground.load)]


def http_clients(ground: Ground) -> list[Case]:
    """CPU seconds of the transfer of one file: http.client beside each of the others."""
    (path,) = ground.fetched.folder.glob("*.whl")
    nbytes = path.stat().st_size
    url = f"{ground.index.origin}/files/{path.name}"

    def subject(name: str) -> Subject:
        def measure(turn: Turn) -> Sample:
            command = [sys.executable, "-m", clients.__name__, name, url, str(nbytes)]
            done = subprocess.run(
                command, env=turn.environ, stdout=subprocess.PIPE, check=True, text=True
            )
            return Sample(json.loads(done.stdout)["cpu"])

        return Subject(measure)

    names = clients.importable(tls=url.startswith("https"))
    if missing := set(clients.CLIENTS) - set(clients.importable(tls=True)):
        ground.note(f"  Left out, not installed: {'; '.join(sorted(missing))}.")
    who = {name: subject(name) for name in names}
    within = ground.fetched.folder.parent
    taken = take_turns(who, ground.rounds, within, ground.turn, ground.note)
    ours = taken["http.client"].seconds
    return [
        Case(
            ground.title,
            ours,
            " ".join([name, *versions(name.partition(",")[0]).values()]),
            each.seconds,
            f"{nbytes / 1e6 / min(ours):.0f} and {nbytes / 1e6 / min(each.seconds):.0f} MB "
            "a CPU second at best",
            unit="CPU s",
            load=ground.load,
        )
        for name, each in taken.items()
        if name != "http.client"
    ]


_ONE, _FIVE = "one {size} wheel", "{count} big wheels, {size}"
_TORCH, _SCIENCE = "torch and its nvidia wheels, {count}, {size}", "{count} scientific wheels"
_TINY = "{count} tiny wheels"
_PLAIN, _TLS = Link(), Link(tls=True)
_SLOW, _SLOW_TLS = Link(PACE), Link(PACE, tls=True)
_FAR = Link(tls=True, trip=TRIP)
_COLD = compared(subjects.cold())

ROWS = (
    Row("one", _ONE, wheels.ONE, _SLOW, _COLD, "wanted 6, aim 8"),
    Row("one", _ONE, wheels.ONE, _SLOW_TLS, _COLD),
    Row("one", _ONE, wheels.ONE, _PLAIN, _COLD, "wanted 1.4, aim 1.8"),
    Row("one", _ONE, wheels.ONE, _TLS, _COLD, "wanted 1.4, aim 1.8"),
    Row("one", _ONE, wheels.ONE, Link(cut=CUT), _COLD),
    Row("one", f"{_ONE}, peak memory", wheels.ONE, _PLAIN, peak_memory, "wanted <= 256 MiB"),
    Row("five", _FIVE, wheels.FIVE, _SLOW, _COLD),
    Row("five", _FIVE, wheels.FIVE, _SLOW_TLS, _COLD, "wanted 4, aim 6"),
    Row("torch", _TORCH, wheels.TORCH, _SLOW_TLS, _COLD, "wanted 4, aim 6"),
    Row("science", _SCIENCE, wheels.SCIENCE, _PLAIN, _COLD, "wanted 1.0, aim 1.3"),
    Row("science", _SCIENCE, wheels.SCIENCE, _TLS, _COLD, "wanted 1.0, aim 1.3"),
    Row("science", _SCIENCE, wheels.SCIENCE, _SLOW_TLS, _COLD),
    Row(
        "science",
        f"`import numpy` among {_SCIENCE}",
        wheels.SCIENCE,
        _SLOW_TLS,
        compared(subjects.first_import("numpy"), peer="uv, all of it"),
        "wanted 10, aim 20",
    ),
    Row(
        "science",
        f"new environment of {_SCIENCE} from a warm store",
        wheels.SCIENCE,
        _PLAIN,
        compared(subjects.from_store()),
        "wanted 1.0, aim 1.3",
    ),
    Row("tiny", _TINY, wheels.TINY, _PLAIN, compared(subjects.cold(), times=QUICK), "wanted 0.9"),
    Row("tiny", _TINY, wheels.TINY, _FAR, compared(subjects.cold(), times=QUICK), "wanted 0.9"),
    Row(
        "tiny",
        f"`run` a script that needs {_TINY}, warm",
        wheels.TINY,
        _PLAIN,
        compared(subjects.warm_run(), times=QUICK, peer="uv run --with-requirements"),
        "wanted 1.0, aim 2",
    ),
    Row(
        "tiny",
        f"warm cell for {_TINY}, over an empty cell",
        wheels.TINY,
        _PLAIN,
        warm_cell,
        "wanted <= 0.01 s",
    ),
    Row("clients", "an HTTP client, {size}", wheels.ONE, _PLAIN, http_clients),
    Row("clients", "an HTTP client, {size}", wheels.ONE, _TLS, http_clients),
)
