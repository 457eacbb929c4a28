"""A snapshot that was damaged anywhere is refused, or comes back right: never wrong."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
import random
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.snapshot.kernels import Cells, Kernel
from tests.snapshot.portable import shells
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotCorrupt, SnapshotError
from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.snapshot.backing import identity
from zerostart_jupyter.snapshot.catalog import Catalog
from zerostart_jupyter.snapshot.portable import description, reading

STATE = """
import hashlib, numpy
x, words = 41, {str(n): n for n in range(100_000)}
a = numpy.random.default_rng(0).integers(0, 255, 40 << 20, 'u1')
def digest(): return hashlib.sha256(a).hexdigest() + str(sum(words.values()))
h = digest()
"""
NAMES = """
import numpy, torch
x, words, a, t = 41, {str(n): n for n in range(1000)}, numpy.arange(1000), torch.arange(1000)
def f(n): return x + n
"""
PLACES = [6, pytest.param(50, marks=pytest.mark.slow)]


@dataclass
class Damage:
    """A place in one of a snapshot's files; `undo` puts back what was there."""

    path: Path
    at: int
    bit: int

    def flip(self) -> None:
        """What a program does that writes where it should not."""
        with _writable(self.path), self.path.open("r+b") as stream:
            stream.seek(self.at)
            byte = stream.read(1)[0]
            stream.seek(self.at)
            stream.write(bytes([byte ^ 1 << self.bit]))

    @contextlib.contextmanager
    def flipped(self) -> Iterator[None]:
        self.flip()
        yield
        self.flip()

    @contextlib.contextmanager
    def cut_off(self) -> Iterator[None]:
        """The rest of the file is lost, as after a crash of the machine."""
        with self._aside() as copy, _writable(self.path):
            os.truncate(self.path, self.at)
            yield
            copy.replace(self.path)

    @contextlib.contextmanager
    def missing(self) -> Iterator[None]:
        with self._aside() as copy:
            self.path.unlink()
            yield
            copy.replace(self.path)

    @contextlib.contextmanager
    def _aside(self) -> Iterator[Path]:
        aside = self.path.parents[2] / "aside"
        # Memory is kept in files of a terabyte, most of which is holes.
        subprocess.run(["cp", "--preserve", "--sparse=always", self.path, aside], check=True)
        yield aside


@contextlib.contextmanager
def _writable(path: Path) -> Iterator[None]:
    mode = path.stat().st_mode
    path.chmod(0o600)
    yield
    path.chmod(mode)


@pytest.fixture
def saved(python: Kernel) -> snapshot.SnapshotInfo:
    python.run(STATE)
    python.run("z.snapshot('one')")
    python.manager.shutdown_kernel(now=True)
    found = snapshot.show("one")
    assert found.manifest().memory
    return found


def places(info: snapshot.SnapshotInfo, count: int) -> Iterator[Damage]:
    """Random places, the same each time: each file is as likely as any other of its kind."""
    kinds = {
        "pages": sorted(info.images.glob("pages-*.img")),
        "images": sorted(set(info.images.glob("*.img")) - set(info.images.glob("pages-*.img"))),
        "memory": sorted(map(Path, info.manifest().memory)),
        "about": [info.path / "manifest.json", info.path / MARKER],
    }
    lengths = {Path(path): length for path, (length, _) in info.manifest().memory.items()}
    chosen = random.Random(5)
    for number in range(count):
        path = chosen.choice(list(kinds.values())[number % len(kinds)])
        length = lengths.get(path) or path.stat().st_size
        yield Damage(path, chosen.randrange(length), chosen.randrange(8))


@pytest.mark.criu
@pytest.mark.timeout(900)
@pytest.mark.parametrize("count", PLACES)
def test_a_process_is_refused_or_comes_back_right(saved: snapshot.SnapshotInfo, count: int) -> None:
    ways: list[Callable[[Damage], contextlib.AbstractContextManager[None]]]
    ways = [Damage.flipped, Damage.flipped, Damage.cut_off, Damage.missing]
    refusals = 0
    for number, damage in enumerate(places(saved, count)):
        way = ways[number // 4 % 4]
        with way(damage):
            refusals += not comes_back_right(saved.id, f"{way.__name__}: {damage}")
    assert refusals >= count * 3 // 4
    assert comes_back_right(saved.id, "undamaged")


def comes_back_right(name: str, what: str) -> bool:
    """Whether it is restored, and then it must be right; refused by a line otherwise."""
    try:
        clone = snapshot.clone(name)
    except SnapshotError:
        return False
    client = clone.client()
    try:
        assert Cells(client).run("(x, digest() == h)") == "(41, True)", what
    finally:
        client.stop_channels()
        clone.shutdown()
    return True


@pytest.mark.criu
@pytest.mark.parametrize("count", PLACES)
def test_a_disk_that_lies_is_found_by_verifying(saved: snapshot.SnapshotInfo, count: int) -> None:
    assert snapshot.verify("one").id == saved.id
    for damage in places(saved, count):
        damage.flip()
        if damage.path.name != MARKER:
            _note_again(saved, damage.path)
            with pytest.raises(SnapshotCorrupt):
                snapshot.verify(saved.id)
        damage.flip()
        _note_again(saved, damage.path)
    assert snapshot.verify("one").id == saved.id


def _note_again(info: snapshot.SnapshotInfo, path: Path) -> None:
    """Have a file seem untouched, as it is where the disk returns other data than was written.

    Inode and times can be put back by nobody; so what was noted of them becomes what they are now.
    """
    if path.parent.parent.name == "memory":
        marker = path.parent / MARKER
        body = json.loads(marker.read_text())
        length, *_ = body["about"]["files"][path.name]
        body["about"]["files"][path.name] = [length, *identity(path)]
        marker.write_text(json.dumps(body))
    elif path.name.startswith("pages-"):
        manifest = snapshot.show(info.id).manifest()
        noted = dict(manifest.noted) | {path.name: tuple(identity(path))}
        digest = dataclasses.replace(manifest, noted=noted).write(info.path)
        Catalog().amend(info.id, digest=digest)


@pytest.mark.parametrize("count", [60, pytest.param(500, marks=pytest.mark.slow)])
def test_names_are_refused_or_come_back_right(tmp_path: Path, count: int) -> None:
    folder = tmp_path / "snapshots" / "one"
    folder.parent.mkdir()
    shells.save(shells.run(NAMES), folder)
    sha256 = hashlib.sha256((folder / description.FILE).read_bytes()).hexdigest()
    files = sorted(path for path in folder.rglob("*") if path.is_file() and path.stat().st_size)
    assert len(files) > 3
    chosen = random.Random(7)
    ways = [Damage.flipped, Damage.flipped, Damage.cut_off, Damage.missing]
    refusals = 0
    for number in range(count):
        path = files[number % len(files)]
        damage = Damage(path, chosen.randrange(path.stat().st_size), chosen.randrange(8))
        with chosen.choice(ways)(damage):
            refusals += not names_are_right(folder, sha256, str(damage))
    assert refusals == count
    assert names_are_right(folder, sha256, "undamaged")


def names_are_right(folder: Path, sha256: str, what: str) -> bool:
    shell = shells.shell()
    try:
        described = description.Description.read(folder, sha256)
        found = reading.bring(described, folder, shell, lambda count: None)
    except SnapshotCorrupt:
        assert set(shell.user_ns) == {"__name__"}
        return False
    found.give(shell, fresh=True)
    names = shell.user_ns
    right = names["words"] == {str(n): n for n in range(1000)}
    assert right, what
    assert int(names["a"].sum()) == 499500, what
    assert names["f"](1) == 42, what
    return True
