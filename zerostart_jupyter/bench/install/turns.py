"""What a subject took in its turn: seconds, CPU seconds, and whether it got there at all."""

from __future__ import annotations

import contextlib
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from zerostart_jupyter.bench.install.servers import Index

PATIENCE = 900  # seconds of any one command
_KEPT = ("HOME", "PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH")


class Failed(Exception):
    """A command ended with an error; its text is the last line it wrote."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One measurement. `cpu` is of the command and all its children."""

    seconds: float
    cpu: float = 0.0


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a subject works: an index, what to install from it, a directory of its own."""

    index: Index
    specs: tuple[str, ...]
    scratch: Path

    @property
    def environ(self) -> dict[str, str]:
        """Nothing of this machine's settings, and caches that nobody else has."""
        path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
        return {
            **{name: os.environ[name] for name in _KEPT if name in os.environ},
            "PYTHONPATH": os.pathsep.join(os.path.abspath(each) for each in path if each),
            "UV_CACHE_DIR": str(self.scratch / "uv"),
            "ZEROSTART_CACHE": str(self.scratch / "cache"),
            "PIP_CONFIG_FILE": os.devnull,
            "UV_NO_CONFIG": "1",
            **self.index.environ,
        }

    def run(self, command: Sequence[str]) -> None:
        """Run it, in the scratch directory. Raises Failed."""
        try:
            done = subprocess.run(
                command,
                cwd=self.scratch,
                env=self.environ,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
                errors="replace",
                timeout=PATIENCE,
            )
        except subprocess.TimeoutExpired as error:
            raise Failed(f"not done after {PATIENCE} s") from error
        if done.returncode:
            raise Failed((done.stderr.strip().splitlines() or ["it said nothing"])[-1].strip())

    def timed(self, command: Sequence[str]) -> Sample:
        """The same, measured; what was written before is on the disk by then."""
        os.sync()
        before = _children()
        began = time.perf_counter()
        self.run(command)
        return Sample(time.perf_counter() - began, _children() - before)


@dataclass(frozen=True, slots=True)
class Subject:
    """`measure` is its turn. With `prepare`, its scratch directory outlives the rounds and is
    prepared once; without, every round starts with an empty one."""

    measure: Callable[[Turn], Sample]
    prepare: Callable[[Turn], object] | None = None


@dataclass(slots=True)
class Taken:
    """What came of a subject's turns."""

    samples: list[Sample] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)

    @property
    def seconds(self) -> tuple[float, ...]:
        """Of each turn that succeeded."""
        return tuple(each.seconds for each in self.samples)

    @property
    def cpu(self) -> tuple[float, ...]:
        """CPU seconds of each turn that succeeded."""
        return tuple(each.cpu for each in self.samples)


def take_turns(
    subjects: Mapping[str, Subject],
    rounds: int,
    within: Path,
    turn: Callable[[Path], Turn],
    note: Callable[[str], None],
) -> dict[str, Taken]:
    """Every subject once a round, in an order that changes. Scratch directories lie in `within`,
    the same file system for all.

    They are kept to the end where the disk has room for that: ext4 looks at each inode that was
    removed in the minutes before it takes one, and whoever comes next would pay.
    """
    taken = {name: Taken() for name in subjects}
    enough = shutil.disk_usage(within).free // 2
    with contextlib.ExitStack() as stack, contextlib.ExitStack() as used:
        kept = {}
        for name, subject in subjects.items():
            if subject.prepare is not None:
                kept[name] = turn(stack.enter_context(_scratch(within)))
                subject.prepare(kept[name])
        for number in range(rounds):
            for name in random.sample(list(subjects), len(subjects)):
                where = kept.get(name) or turn(used.enter_context(_scratch(within)))
                try:
                    sample = subjects[name].measure(where)
                except Failed as error:
                    taken[name].failures.append(str(error))
                    note(f"  {number + 1}/{rounds} {name}: failed: {error}")
                    continue
                taken[name].samples.append(sample)
                cpu = f", CPU {sample.cpu:.3g} s" if sample.cpu else ""
                note(f"  {number + 1}/{rounds} {name}: {sample.seconds:.3g}{cpu}")
                if shutil.disk_usage(within).free < enough:
                    used.close()
    return taken


@contextlib.contextmanager
def _scratch(within: Path) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="zerostart-bench-", dir=within))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _children() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def python(code: str, *arguments: str) -> list[str]:
    """The command that runs this code in this interpreter."""
    return [sys.executable, "-c", code, *arguments]
