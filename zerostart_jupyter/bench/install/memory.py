"""The most memory that a command had, with its children."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from zerostart_jupyter.bench.install.turns import PATIENCE, Failed, Turn, python

_GLANCE = 0.01  # seconds


def peak(turn: Turn, command: Sequence[str]) -> int:
    """Bytes: the VmHWM of the command and of each process it started, added up, which is more
    than they had at any one moment. Raises Failed."""
    process = subprocess.Popen(
        command,
        cwd=turn.scratch,
        env=turn.environ,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    most: dict[int, int] = {}
    until = time.monotonic() + PATIENCE
    while process.poll() is None and time.monotonic() < until:
        for pid in _tree(process.pid):
            if (now := _high_water(pid)) is not None:
                most[pid] = now  # never falls, but is another's after an exec
        time.sleep(_GLANCE)
    if process.poll() is None:
        process.kill()
    if process.wait():
        raise Failed(f"{command[0]} ended with {process.returncode}")
    return sum(most.values())


def bare(turn: Turn) -> int:
    """Bytes of an interpreter that does nothing."""
    return peak(turn, python("import time; time.sleep(0.2)"))


def _tree(root: int) -> list[int]:
    found = [root]
    for pid in found:
        try:
            for thread in Path(f"/proc/{pid}/task").iterdir():
                found += map(int, (thread / "children").read_text().split())
        except OSError:  # it has ended
            continue
    return found


def _high_water(pid: int) -> int | None:
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) << 10 for line in lines if line.startswith("VmHWM:")), None)
