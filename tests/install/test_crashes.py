"""`kill -9` at any point: an environment is absent or whole, and the next run finishes it."""

from __future__ import annotations

import hashlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.wheels import Wheel, make, noise
from tests.servers.index import Index
from zerostart_jupyter.core.store import Store

ROOT = Path(__file__).parents[2]
PATIENCE = 60.0
CODE = """
import json, sys
from pathlib import Path
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import IndexOptions, gather, install, partial
partial.WORTHWHILE, partial.QUICK = 1 << 20, 0.0
request = gather(["zs-crash"], index=IndexOptions(index_url=sys.argv[1]))
settings = Settings.read(cache=Path(sys.argv[2]), chunk_mb=1, parallel_downloads=4)
print("started", flush=True)
print(json.dumps(install(request=request, settings=settings, activate=False).as_json()))
"""


def wheels() -> list[Wheel]:
    many = {f"zs_many/{n}.txt": noise(2000, n) for n in range(150)}
    return [
        make("zs-crash", requires=["zs-many", "zs-blob"]),
        make("zs-many", files={"zs_many/__init__.py": b"", **many}),
        make("zs-blob", files={"zs_blob/__init__.py": b"", "zs_blob/blob": noise(4 << 20)}),
    ]


def start(index: Index, cache: Path) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    return subprocess.Popen(
        [sys.executable, "-c", CODE, index.url, str(cache)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environ,
        start_new_session=True,
    )


def finish(index: Index, cache: Path) -> Path:
    process = start(index, cache)
    out, errors = process.communicate(timeout=PATIENCE)
    assert process.returncode == 0, errors
    return Path(json.loads(out.splitlines()[-1])["environment"])


def digest(environment: Path) -> dict[str, str]:
    """Content and mode of every file, by place; what names this very place left out."""
    found = {}
    for path in sorted(environment.rglob("*")):
        name = str(path.relative_to(environment))
        if path.is_file() and name not in ("entry.json", ".zerostart/used"):
            content = path.read_bytes().replace(str(environment).encode(), b"ENV")
            found[name] = f"{path.stat().st_mode:o} {hashlib.sha256(content).hexdigest()}"
    return found


def crash_and_finish(index: Index, cache: Path, moment: float, whole: dict[str, str]) -> bool:
    """Kill an install after so many seconds, check the cache, finish; True if it was cut."""
    process = start(index, cache)
    assert process.stdout is not None
    process.stdout.readline()
    time.sleep(moment)  # the moment of the kill is what is being varied
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    store = Store(cache)
    marked = [entry.path for entry in store.entries("environments")]
    for path in marked:
        assert digest(path) == whole
    for entry in store.entries("wheels"):
        assert (entry.path / "manifest.json").exists()
    environment = finish(index, cache)
    assert digest(environment) == whole
    store.sweep()
    assert not list(cache.glob("*/.staging-*"))
    return not marked


def rounds(index: Index, tmp_path: Path, moments: list[float]) -> None:
    publish(index, *wheels())
    for wheel in index.wheels.values():
        index.of(wheel).pace = 3 << 20
    whole = digest(finish(index, tmp_path / "reference"))
    assert len(whole) > 150
    cut = [
        crash_and_finish(index, tmp_path / f"cache{number}", moment, whole)
        for number, moment in enumerate(moments)
    ]
    assert any(cut)


def test_killed_at_some_points(index: Index, tmp_path: Path) -> None:
    rounds(index, tmp_path, [0.05, 0.35, 0.6, 0.9])


@pytest.mark.slow
def test_killed_at_twenty_random_points(index: Index, tmp_path: Path) -> None:
    chance = random.Random(20)
    rounds(index, tmp_path, [chance.uniform(0.0, 1.6) for _ in range(20)])


def test_a_late_kill_costs_little(index: Index, tmp_path: Path) -> None:
    """At nine tenths of the bytes, at most 15 % are fetched again."""
    blob = make("zs-crash", files={"zs_crash/__init__.py": b"", "zs_crash/blob": noise(12 << 20)})
    publish(index, blob)
    index.of(blob).hold = threading.Event()
    index.of(blob).hold_from = 11 << 20
    process = start(index, tmp_path / "cache")
    journal = tmp_path / "cache" / "partial" / blob.sha256 / "journal"
    deadline = time.monotonic() + PATIENCE
    while not journal.exists() or len(journal.read_text().splitlines()) < 11:
        assert time.monotonic() < deadline
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate(timeout=PATIENCE)
    hold, index.of(blob).hold = index.of(blob).hold, None
    assert hold is not None
    hold.set()
    before = index.sent
    assert finish(index, tmp_path / "cache")
    assert index.sent - before <= 0.15 * len(blob.data)
