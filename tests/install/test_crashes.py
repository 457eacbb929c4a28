"""`kill -9` at any point: an environment is absent or whole, and the next run finishes it."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.wheels import Wheel, make, noise
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.store import Store

ROOT = Path(__file__).parents[2]
_RANGE = re.compile(r"bytes=(\d+)-")
CODE = """
import json, sys
from pathlib import Path
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import IndexOptions, gather, install, partial
partial.WORTHWHILE, partial.QUICK = 1 << 20, 0.0
request = gather(["zs-crash", *sys.argv[3:]], index=IndexOptions(index_url=sys.argv[1]))
settings = Settings.read(cache=Path(sys.argv[2]), chunk_mb=1, parallel_downloads=4)
print("started", flush=True)
print(json.dumps(install(request=request, settings=settings, activate=False).as_json()))
"""


SMALL = [f"zs-small-{number}" for number in range(14)]  # enough for processes that pack


def wheels() -> list[Wheel]:
    many = {f"zs_many/{n}.txt": noise(2000, n) for n in range(150)}
    return [
        make("zs-crash", requires=["zs-many", "zs-blob", *SMALL]),
        *(make(name, files=small(name)) for name in SMALL),
        make("zs-many", files={"zs_many/__init__.py": b"", **many}),
        make("zs-blob", files={"zs_blob/__init__.py": b"", "zs_blob/blob": noise(4 << 20)}),
    ]


def small(name: str) -> dict[str, bytes]:
    module = name.replace("-", "_")
    return {f"{module}/__init__.py": b"", f"{module}/data": noise(90_000, len(name))}


def start(index: Index, cache: Path, *more: str, **settings: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT), **settings}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, index.url, str(cache), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )


def finish(index: Index, cache: Path, *more: str) -> Path:
    process = start(index, cache, *more)
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return Path(json.loads(out.splitlines()[-1])["environment"])


def digest(environment: Path) -> dict[str, str]:
    """Content and mode of every file, by place; what is about this very place, or the processes
    that made it, left out."""
    found = {}
    for path in sorted(environment.rglob("*")):
        name = str(path.relative_to(environment))
        ours = name in ("entry.json", ".zerostart/used") or name.startswith(".zerostart/children/")
        if path.is_file() and not ours:
            content = path.read_bytes().replace(str(environment).encode(), b"ENV")
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def packers(process: int) -> set[int]:
    """The processes that pack for this one."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            parent = (folder / "stat").read_text().rpartition(")")[2].split()[1]
            if int(parent) == process and b"install.packing" in (folder / "cmdline").read_bytes():
                found.add(int(folder.name))
    return found


def lives(process: int) -> bool:
    try:
        return b"install.packing" in Path(f"/proc/{process}/cmdline").read_bytes()
    except OSError:
        return False


class Chaos:
    """Installs over an index that breaks connections and is now and then too busy, killed at
    points that do not depend on how fast anything is.

    A point below 1 is a share of the bytes that an install takes from the index; from 1 on it is
    a share of the files that are in its environment in the end.

    `packed` counts the processes seen that pack; they are in groups of their own.
    """

    def __init__(self, index: Index, tmp_path: Path) -> None:
        publish(index, *wheels())
        self._index = index
        self._folder = tmp_path
        self._misbehave()
        self._whole = digest(finish(index, tmp_path / "reference"))
        self._bytes = sum(len(wheel.data) for wheel in index.wheels.values())
        assert len(self._whole) > 150
        self.packed = 0

    def _misbehave(self) -> None:
        for number, wheel in enumerate(self._index.wheels.values()):
            how = self._index.of(wheel)
            how.pace = 16 << 20
            how.cut_after, how.spare_wholes = 700_000, True
            how.answers = [(503, {"Retry-After": "0"})] * (number % 3)

    def crash_and_finish(self, number: int, point: float, victims: str = "install") -> bool:
        """Kill an install there, check the cache, finish; True if the environment was not whole.

        `victims` are the "install", its "packers", or "both"; without packers it goes on alone.
        """
        cache = self._folder / f"cache{number}"
        self._misbehave()
        packed = victims != "install"
        # What comes ahead of uv's answer may leave too little for processes that pack.
        process = start(self._index, cache, **({"ZS_NO_HEAD_START": "1"} if packed else {}))
        before = self._index.sent
        deadline = time.monotonic() + PATIENCE
        helpers: set[int] = set()
        while process.poll() is None:
            if self._reached(point, before, cache) and (helpers or not packed):
                break
            assert time.monotonic() < deadline
            helpers |= packers(process.pid)
            time.sleep(0.001)
        helpers |= packers(process.pid)
        self.packed += len(helpers)
        for helper in helpers if packed else ():
            with contextlib.suppress(ProcessLookupError):
                os.kill(helper, signal.SIGKILL)
        if victims != "packers":
            os.killpg(process.pid, signal.SIGKILL)
        _, errors = process.communicate(timeout=PATIENCE)
        assert victims != "packers" or process.returncode == 0, errors
        marked = [entry.path for entry in Store(cache).entries("environments")]
        for path in marked:
            assert digest(path) == self._whole
        for entry in Store(cache).entries("wheels"):
            assert (entry.path / "manifest.json").exists()
        self._misbehave()
        assert digest(finish(self._index, cache)) == self._whole
        while any(map(lives, helpers)):  # none outlives whom it packs for
            assert time.monotonic() < deadline + PATIENCE
            time.sleep(0.01)
        Store(cache).sweep()
        assert not list(cache.glob("*/.staging-*"))
        return not marked

    def _reached(self, point: float, before: int, cache: Path) -> bool:
        if point < 1:
            return self._index.sent - before >= point * self._bytes
        files = sum(len(files) for _, _, files in os.walk(cache / "environments"))
        return files >= (point - 1) * len(self._whole)


def test_killed_at_some_points(index: Index, tmp_path: Path) -> None:
    chaos = Chaos(index, tmp_path)
    points = [(0.0, "install"), (0.3, "both"), (0.8, "install"), (0.5, "packers"), (1.5, "both")]
    cut = [chaos.crash_and_finish(at, *point) for at, point in enumerate(points)]
    assert cut[:2] == [True, True]
    assert not cut[3]  # who loses its packers packs by itself
    assert chaos.packed


@pytest.mark.slow
def test_killed_at_twenty_random_points(index: Index, tmp_path: Path) -> None:
    seed = int(os.environ.get("ZS_TEST_SEED", "20"))
    chance = random.Random(seed)
    victims = ["install", "packers", "both"]
    points = [(round(chance.uniform(0.0, 1.9), 3), chance.choice(victims)) for _ in range(20)]
    print(f"seed {seed} (ZS_TEST_SEED), points {points}")
    chaos = Chaos(index, tmp_path)
    cut = []
    for number, (point, whom) in enumerate(points):
        print(f"{whom} killed at {point}")
        cut.append(chaos.crash_and_finish(number, point, whom))
    early = [point < 0.5 and whom != "packers" for point, whom in points]
    assert all(was for was, sooner in zip(cut, early, strict=True) if sooner)
    assert chaos.packed


def test_a_process_takes_up_what_a_living_one_has(index: Index, tmp_path: Path) -> None:
    """Two that want the same wheel for environments of their own."""
    blob = make("zs-crash", files={"zs_crash/__init__.py": b"", "zs_crash/blob": noise(12 << 20)})
    publish(index, blob, make("zs-other"))
    hold = index.of(blob).hold = threading.Event()
    index.of(blob).hold_from = 8 << 20
    first = start(index, tmp_path / "cache")
    try:
        wait_for_blocks(tmp_path / "cache" / "partial" / blob.sha256 / "journal", 8)
        index.of(blob).hold = None  # for who asks from now on
        before = len(index.ranges)
        second = finish(index, tmp_path / "cache", "zs-other")
        assert first.poll() is None
        asked = [str(wanted) for path, wanted in index.ranges[before:] if "zs_crash" in path]
        starts = [int(found[1]) for found in map(_RANGE.match, asked) if found]
        assert starts  # uv asks for no ranges
        assert min(starts) >= 8 << 20
    finally:
        hold.set()
        out, errors = first.communicate(timeout=PATIENCE)
    assert first.returncode == 0, errors
    one = Path(json.loads(out.splitlines()[-1])["environment"])
    assert one != second
    assert {name: each for name, each in digest(second).items() if "zs_crash" in name} == {
        name: each for name, each in digest(one).items() if "zs_crash" in name
    }
    assert list((tmp_path / "cache" / "partial").iterdir()) == []


def wait_for_blocks(journal: Path, count: int) -> None:
    deadline = time.monotonic() + PATIENCE
    while not journal.exists() or len(journal.read_text().splitlines()) < count:
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_late_kill_costs_little(index: Index, tmp_path: Path) -> None:
    """At nine tenths of the bytes, at most 15 % are fetched again."""
    blob = make("zs-crash", files={"zs_crash/__init__.py": b"", "zs_crash/blob": noise(12 << 20)})
    publish(index, blob)
    index.of(blob).hold = threading.Event()
    index.of(blob).hold_from = 11 << 20
    process = start(index, tmp_path / "cache")
    journal = tmp_path / "cache" / "partial" / blob.sha256 / "journal"
    wait_for_blocks(journal, 11)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    hold, index.of(blob).hold = index.of(blob).hold, None
    assert hold is not None
    hold.set()
    before = len(index.ranges)
    assert finish(index, tmp_path / "cache")
    # uv reads metadata without ranges, and may have been killed before it had kept that
    again = [wanted for _, wanted in index.ranges[before:] if wanted is not None]
    assert sum(map(asked_for, again)) <= 0.15 * len(blob.data)


def asked_for(wanted: str) -> int:
    first, last = re.fullmatch(r"bytes=(\d*)-(\d+)", wanted).groups()  # type: ignore[union-attr]
    return int(last) - int(first) + 1 if first else int(last)
