"""Installs in a mount namespace of its own, where disks are small, read-only or two.

    unshare --mount python -m tests.install.small_disk KIND INDEX FOLDER

Prints one JSON object: for each round what was said, or where the environment is.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

from tests.install.equality import tree
from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, gather, install

SPEC = "zs-disk"
ENOUGH = "size=200m,nr_inodes=100000"


def mount(folder: Path, options: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", options, "tmpfs", folder], check=True)


def attempt(url: str, cache: Path, *specs: str) -> dict[str, object]:
    """What an install says; `ok` is the environment's content, `failed` the error's line."""
    request = gather(specs or [SPEC], index=IndexOptions(index_url=url))
    settings = Settings.read(cache=cache, chunk_mb=1, parallel_downloads=4)
    try:
        found = install(request=request, settings=settings, activate=False)
    except ZerostartError as error:
        return {"failed": type(error).__name__, "line": str(error), "remedy": error.remedy}
    return {"ok": tree(found.environment), "warm": found.warm}


def full(url: str, folder: Path) -> object:
    """A disk that becomes full earlier or later, then has room again."""
    rounds = []
    budgets = [f"nr_inodes={count}" for count in (4, 12, 18, 24, 30, 45, 70, 100, 130, 160, 190)]
    budgets += [f"size={kib}k" for kib in (60, 200, 400, 900, 1600)]
    for number, budget in enumerate(budgets):
        disk = folder / f"disk{number}"
        mount(disk, budget)
        first = attempt(url, disk / "cache")
        published = []
        if (disk / "cache" / "locks").exists():
            subprocess.run(["mount", "-o", f"remount,{ENOUGH}", disk], check=True)
            store = Store(disk / "cache")
            published = [str(entry.path) for entry in store.entries("environments")]
            second = attempt(url, disk / "cache")
            store.sweep()
            left = [str(path) for path in (disk / "cache").glob("*/.staging-*")]
        else:
            subprocess.run(["mount", "-o", f"remount,{ENOUGH}", disk], check=True)
            second, left = attempt(url, disk / "cache"), []
        rounds.append(
            {"budget": budget, "first": first, "published": published, "second": second}
            | {"left": left}
        )
    return rounds


def read_only(url: str, folder: Path) -> object:
    """A cache that was filled, and can only be read by the processes that come then."""
    disk = folder / "disk"
    mount(disk, ENOUGH)
    found = [apart(url, disk / "cache", SPEC)]
    subprocess.run(["mount", "-o", "remount,ro", disk], check=True)
    return [*found, apart(url, disk / "cache", SPEC), apart(url, disk / "cache", "zs-other")]


def apart(url: str, cache: Path, spec: str) -> object:
    """An attempt in a process of its own."""
    command = [sys.executable, "-m", "tests.install.small_disk", "one", url, str(cache), spec]
    return json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def two_disks(url: str, folder: Path) -> object:
    """Wheels on one device, environments on another."""
    mount(folder / "cache" / "environments", ENOUGH)
    found = attempt(url, folder / "cache")
    wheels = (folder / "cache" / "wheels").rglob("*.txt")
    return [found, sorted({path.stat().st_nlink for path in wheels})]


KINDS: dict[str, Callable[[str, Path], object]] = {
    "full": full,
    "read_only": read_only,
    "two_disks": two_disks,
}

if __name__ == "__main__":
    os.umask(0o022)
    kind, index, place, *specs = sys.argv[1:]
    made = attempt(index, Path(place), *specs) if specs else KINDS[kind](index, Path(place))
    print(json.dumps(made))
