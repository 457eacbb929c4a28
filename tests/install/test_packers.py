"""Wheels packed in processes: the same result as here, the same refusals, and no loss."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.install.conftest import Bring, publish
from tests.install.straight import locked
from tests.install.wheels import Wheel, make, noise
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.errors import DigestMismatch, WheelRejected, ZerostartError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import packers, packing
from zerostart_jupyter.install.environment import Environment, Rivals
from zerostart_jupyter.install.gate import gate
from zerostart_jupyter.install.lock import Lock
from zerostart_jupyter.install.packers import Packer
from zerostart_jupyter.install.unpack import stored

RICH = make(
    "zs-rich",
    files={
        "zs_rich/__init__.py": b"X = 1\n",
        "zs_rich/blob": noise(1 << 20),
        "zs_rich/café.txt": b"",
        "zs_rich-1.0.data/scripts/zs-say": b"#!python\nprint(1)\n",
        "zs_rich-1.0.data/data/share/zs/text": b"text\n",
    },
    entry_points="[console_scripts]\nzs-run = zs_rich:X\n",
    requires=["zs-other>=1"],
)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    found = Environment(tmp_path / "env")
    found.prepare()
    return found


@pytest.fixture
def packer(store: Store, environment: Environment) -> Iterator[Packer]:
    found = Packer(store, environment)
    found.start()
    yield found
    found.close()


def halves(wheel: Wheel) -> list[memoryview]:
    view, middle = memoryview(wheel.data), len(wheel.data) // 2
    return [view[:middle], view[middle:]]


def tree(root: Path) -> dict[str, tuple[int, bytes]]:
    """Mode and content of each file, but for the root's own name, which a program begins with,
    and the digests that RECORD has of such programs."""
    return {
        str(path.relative_to(root)): (
            path.stat().st_mode,
            re.sub(
                rb"(zs-say|zs-run),.*", rb"\1", path.read_bytes().replace(os.fsencode(root), b"")
            ),
        )
        for path in sorted(root.rglob("*"))
        if path.is_file() and not path.is_symlink()
    }


def test_a_process_packs_as_this_one_does(
    packer: Packer, environment: Environment, store: Store, tmp_path: Path
) -> None:
    there = packer.pack(locked(RICH), halves(RICH), 0)
    other = Environment(tmp_path / "other")
    other.prepare()
    here = packing.pack(
        Store(tmp_path / "store"), locked(RICH), memoryview(RICH.data), other, order=0
    )
    assert there == here
    assert there.requires == ("zs-other>=1",)
    assert tree(environment.root) == tree(other.root)
    assert (environment.bin / "zs-run").stat().st_mode & 0o111
    assert stored(store, RICH.sha256) is not None


def test_a_refusal_is_the_same_error(packer: Packer, environment: Environment) -> None:
    bad = make("zs-bad", wheel="Wheel-Version: 9\n")
    cut = RICH.data[:-1]
    for wheel, data, kind in (
        (bad, bad.data, WheelRejected),
        (RICH, cut, DigestMismatch),
    ):
        with pytest.raises(kind) as there:
            packer.pack(locked(wheel), [memoryview(data)], 0)
        with pytest.raises(kind) as here:
            packing.pack(packer._store, locked(wheel), memoryview(data), environment, 0)
        assert isinstance(there.value, ZerostartError)
        assert str(there.value) == str(here.value)
    packer.pack(locked(RICH), halves(RICH), 0)  # it goes on


def test_a_failure_of_the_machine_keeps_its_number_and_place(
    packer: Packer, environment: Environment
) -> None:
    (environment.site / "zs_rich").write_text("in the way")
    with pytest.raises(OSError, match="zs_rich") as caught:
        packer.pack(locked(RICH), halves(RICH), 0)
    assert caught.value.errno


def test_a_packer_that_is_killed_loses_nothing(packer: Packer, environment: Environment) -> None:
    packer.pack(locked(RICH), halves(RICH), 0)
    assert packer._process is not None
    os.kill(packer._process.pid, signal.SIGKILL)
    more = make("zs-more", files={"zs_more/blob": noise(3 << 20)})
    packer.pack(locked(more), halves(more), 1)
    assert (environment.site / "zs_more/blob").stat().st_size == 3 << 20


def test_it_ends_with_what_it_is_given(packer: Packer) -> None:
    process = packer._process
    assert process is not None
    assert process.stdin is not None
    process.stdin.close()
    assert process.wait(60) == 0


def test_where_none_can_be_started_the_work_is_done_here(
    store: Store, environment: Environment, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "executable", "/no/such/python")
    packer = Packer(store, environment)
    packer.start()
    packer.pack(locked(RICH), halves(RICH), 0)
    packer.close()
    assert (environment.site / "zs_rich/__init__.py").exists()


@pytest.mark.parametrize("turns", [(0, 1), (1, 0)])
def test_of_two_that_bring_a_file_the_later_in_order_has_it(
    store: Store, tmp_path: Path, turns: tuple[int, int]
) -> None:
    wheels = [make(name, files={"zs_both.py": name.encode()}) for name in ("zs-a", "zs-b")]
    lock = Lock(tuple(locked(each) for each in wheels))
    environment = Environment(tmp_path / "env", rivals=Rivals(store, lock.packages))
    environment.prepare()
    made = [Packer(store, environment) for _ in wheels]
    try:
        for number in turns:  # each in a process of its own
            made[number].start()
            made[number].pack(lock.packages[number], halves(wheels[number]), number)
    finally:
        for each in made:
            each.close()
    assert (environment.site / "zs_both.py").read_bytes() == b"zs-b"


def test_many_small_wheels_and_a_large_one(
    bring: Bring, index: Index, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The large one is unpacked as it arrives, the small ones by packers, in one environment."""
    started: list[Packer] = []
    start = Packer.start

    def noted(packer: Packer) -> None:
        started.append(packer)
        start(packer)

    monkeypatch.setattr(Packer, "start", noted)
    names = [f"zs-many-{number}" for number in range(14)]
    small = [make(name, files={f"{name.replace('-', '_')}/x": noise(9000)}) for name in names]
    middle = make("zs-middle", files={"zs_middle/blob": noise(3 << 19)})
    large = make("zs-large", files={"zs_large/blob": noise(5 << 20)})
    publish(index, *small, middle, large)
    assert len(large.data) > packers.limit(settings) > len(middle.data)
    quiet = settings.with_(no_head_start=True)
    found = bring(*names, "zs-middle", "zs-large", settings=quiet)
    assert started
    assert all(each._process is None for each in started)  # none is left
    for wheel in (*small, middle, large):
        folder = found.site_packages / wheel.name.replace("-", "_")
        assert sum(path.stat().st_size for path in folder.iterdir()) > 8000
    assert bring(*names, "zs-middle", "zs-large").warm


def test_a_refused_wheel_among_many_is_named_and_nothing_is_left(
    bring: Bring, index: Index, store: Store
) -> None:
    names = [f"zs-many-{number}" for number in range(14)]
    publish(index, *(make(name) for name in names), make("zs-bad", wheel="Wheel-Version: 9\n"))
    with pytest.raises(WheelRejected, match="zs_bad"):
        bring(*names, "zs-bad")
    assert [path for path in (store.root / "wheels").iterdir() if ".staging" in path.name] == []
    assert store.entries("environments") == []


def test_few_wheels_are_not_worth_a_process(store: Store, environment: Environment) -> None:
    assert packers.hire(store, environment, Settings.read(), 3) == []


def test_names_are_known_before_anything_is_packed(
    bring: Bring, index: Index, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or each import of what nobody has would wait for all wheels.

    What a head start has given to a packer by then is named when that is done.
    """
    hold = threading.Event()
    pack = Packer.pack

    def held(packer: Packer, *given: Any) -> packing.Packed:
        hold.wait(PATIENCE)
        return pack(packer, *given)

    monkeypatch.setattr(Packer, "pack", held)
    names = [f"zs-many-{number}" for number in range(14)]
    publish(index, *(make(name) for name in names))
    found = bring(*names, wait=False, settings=settings.with_(no_head_start=True))
    try:
        named = threading.Thread(target=gate.pending[-1].wait_named, daemon=True)
        named.start()
        named.join(PATIENCE)
        assert not named.is_alive()
        assert not found.done
    finally:
        hold.set()
    found.wait(PATIENCE)
