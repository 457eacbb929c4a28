"""Installs beside uv's: the same wheels, the same loopback server, cold caches, whole commands.

The wheels of the real sets are fetched once, with the index settings of this machine; the large
one is made here. A first measurement, over plain HTTP/1.1: an index that speaks HTTP/2 carries
all of uv's requests over one connection, and would be kinder to us.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from zerostart_jupyter.bench.report import Case, Report, versions
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import gather, plan
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.indexes import read_indexes
from zerostart_jupyter.install.resolve import find_uv
from zerostart_jupyter.install.source import FileSource, HttpSource

PACE = 25_000_000  # bytes a second on each connection
_TINY = (
    "idna",
    "six",
    "certifi",
    "attrs",
    "packaging",
    "tomli",
    "zipp",
    "pluggy",
    "iniconfig",
    "wcwidth",
)
_SCIENCE = (
    *("numpy", "scipy", "pandas", "scikit-learn", "matplotlib", "networkx", "sympy", "pillow"),
    *("jupyterlab", "notebook", "seaborn", "statsmodels", "requests", "rich", "pytest"),
)
_BIG = "zs-bench-large"
_SOURCES = {"HOME", "PATH", "LANG", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH"}

Note = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """A case: what is installed, from which folder, at which pace of a connection."""

    name: str
    specs: tuple[str, ...]
    folder: Path
    pace: int
    warm_store: bool = False


def measure(rounds: int, note: Note) -> Report:
    """The cases, `rounds` times each, ours and uv's by turns."""
    store = Store(Settings.read().cache)
    home = store.path("tools", "bench-wheels")
    large, science, tiny = home / "large", home / "science", home / "tiny"
    note("Making one large wheel, fetching the real ones.")
    _make_large(large)
    _fetch(science, _SCIENCE)
    _fetch(tiny, _TINY)
    setups = [
        Setup("one large wheel, 25 MB/s a connection", (_BIG,), large, PACE),
        Setup("one large wheel, no limit", (_BIG,), large, 0),
        Setup(f"{_count(science)} wheels, 25 MB/s a connection", _SCIENCE, science, PACE),
        Setup(f"{_count(science)} wheels, no limit", _SCIENCE, science, 0),
        Setup(f"{_count(tiny)} tiny wheels, no limit", _TINY, tiny, 0),
        Setup(f"{_count(science)} wheels, from the store", _SCIENCE, science, 0, warm_store=True),
    ]
    cases = []
    for setup in setups:
        note(setup.name)
        cases.append(_case(setup, rounds, note))
    note("first import of several packages")
    cases.append(_first_import(science, rounds))
    return Report("Installing, beside uv", tuple(cases), versions("zerostart-jupyter", "uv"))


def _case(setup: Setup, rounds: int, note: Note) -> Case:
    ours, theirs = [], []
    with served(setup.folder, setup.pace) as url:
        for _ in range(rounds):
            theirs.append(_round(setup, url, _uv))
            ours.append(_round(setup, url, _zerostart))
    size = sum(path.stat().st_size for path in setup.folder.glob("*.whl"))
    note(f"  ours {min(ours):.2f} s, uv {min(theirs):.2f} s")
    return Case(setup.name, tuple(ours), "uv", tuple(theirs), f"{size / 1e6:.0f} MB")


def _round(setup: Setup, url: str, install: Callable[[Setup, str, Path, str], None]) -> float:
    with tempfile.TemporaryDirectory(prefix="zerostart-bench-", dir=setup.folder.parent) as name:
        scratch = Path(name)
        if setup.warm_store:  # everything is here but the environment
            install(setup, url, scratch, "first")
        started = time.perf_counter()
        install(setup, url, scratch, "second")
        return time.perf_counter() - started


def _uv(setup: Setup, url: str, scratch: Path, turn: str) -> None:
    command = [find_uv(), "pip", "install", "--quiet", "--default-index", url, "--python"]
    command += [sys.executable, "--target", str(scratch / turn), *setup.specs]
    subprocess.run(command, check=True, env=_environ(scratch), timeout=600)


def _zerostart(setup: Setup, url: str, scratch: Path, turn: str) -> None:
    if turn == "second" and setup.warm_store:
        shutil.rmtree(scratch / "cache" / "environments")
    command = [sys.executable, "-m", "zerostart", "install", "--json", "--index-url", url]
    subprocess.run(
        [*command, *setup.specs],
        check=True,
        env=_environ(scratch),
        stdout=subprocess.DEVNULL,
        timeout=600,
    )


def _first_import(folder: Path, rounds: int) -> Case:
    """Until `import numpy` has returned, against uv's whole install, on the paced link."""
    setup = Setup("`import numpy` among them, 25 MB/s a connection", _SCIENCE, folder, PACE)
    code = (
        "import sys; from zerostart_jupyter.install import *\n"
        "i = install(request=gather(sys.argv[2:], index=IndexOptions(index_url=sys.argv[1])),"
        " wait=False)\nimport numpy\nimport os; os._exit(0)\n"
    )

    def until_import(setup: Setup, url: str, scratch: Path, turn: str) -> None:
        command = [sys.executable, "-c", code, url, *setup.specs]
        subprocess.run(command, check=True, env=_environ(scratch), timeout=600)

    ours, theirs = [], []
    with served(folder, PACE) as url:
        for _ in range(rounds):
            theirs.append(_round(setup, url, _uv))
            ours.append(_round(setup, url, until_import))
    return Case(setup.name, tuple(ours), "uv, all of it", tuple(theirs))


@contextlib.contextmanager
def served(folder: Path, pace: int) -> Iterator[str]:
    """The address of a server of its own process for a folder of wheels."""
    command = [sys.executable, "-m", "zerostart_jupyter.bench.paced", str(folder), str(pace)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdin is not None
    try:
        yield f"http://127.0.0.1:{int(process.stdout.readline())}/simple"
    finally:
        process.stdin.close()
        process.wait(timeout=60)
        process.stdout.close()


def _environ(scratch: Path) -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if name in _SOURCES}
    return {
        **kept,
        "UV_CACHE_DIR": str(scratch / "uv"),
        "ZEROSTART_CACHE": str(scratch / "cache"),
        "PIP_CONFIG_FILE": os.devnull,
        "UV_NO_CONFIG": "1",
    }


def _count(folder: Path) -> int:
    return len(list(folder.glob("*.whl")))


def _fetch(folder: Path, specs: Sequence[str]) -> None:
    """The wheels that satisfy these requirements, as files."""
    folder.mkdir(parents=True, exist_ok=True)
    request = gather(specs)
    lock = plan(request, activate=False).lock
    indexes = read_indexes(request.index)
    connections = Connections(indexes, Settings.read().http_timeout)
    wanted = {each.wheel: each for each in lock.packages}
    for path in folder.glob("*.whl"):
        if path.name not in wanted:
            path.unlink()
    try:
        for name, locked in wanted.items():
            if (folder / name).exists():
                continue
            with open(folder / f"{name}.part", "wb") as file:

                def write(at: int, block: memoryview, file: object = file) -> None:
                    file.write(block)  # type: ignore[attr-defined]

                if locked.url.startswith("file:"):
                    source = FileSource.of(locked.url)
                    tail = source.tail(1 << 40)
                    file.write(tail.data)
                else:
                    HttpSource(connections, locked.url, threading.Event()).spool(write)
            (folder / f"{name}.part").rename(folder / name)
    finally:
        connections.close()


def _make_large(folder: Path) -> None:
    """A wheel of over 500 MB whose members inflate to about twice that, as libraries do."""
    path = folder / f"{_BIG.replace('-', '_')}-1.0-py3-none-any.whl"
    if path.exists():
        return
    folder.mkdir(parents=True, exist_ok=True)
    info = path.name.removesuffix("-py3-none-any.whl") + ".dist-info"
    chance = random.Random(1)
    files = {f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {_BIG}\nVersion: 1.0\n".encode()}
    files[f"{info}/WHEEL"] = b"Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
    rows = []
    part = path.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as wheel:
        for number in range(4):
            name = f"zs_bench_large/lib{number}.so"
            digest, total = hashlib.sha256(), 0
            with wheel.open(name, "w", force_zip64=False) as member:
                for _ in range(1050):
                    block = chance.randbytes(128 << 10) + bytes(range(256)) * 512
                    member.write(block)
                    digest.update(block)
                    total += len(block)
            rows.append(f"{name},{_recorded(digest.digest())},{total}\n")
        for name, content in files.items():
            wheel.writestr(name, content)
            rows.append(f"{name},{_recorded(hashlib.sha256(content).digest())},{len(content)}\n")
        wheel.writestr(f"{info}/RECORD", "".join([*rows, f"{info}/RECORD,,\n"]))
    part.rename(path)


def _recorded(digest: bytes) -> str:
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
