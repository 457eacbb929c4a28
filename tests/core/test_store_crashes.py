"""The store under random work and real deaths: an entry is absent or whole, whoever is killed.

Every process here is real and dies by SIGKILL, at a system call that Hypothesis picks or while it
holds something.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    precondition,
    rule,
)

from zerostart_jupyter.core.store import MARKER, Store

# What an action does to the file system; the process may be killed before any of them.
STEPS = {"open", "os.mkdir", "os.rename", "os.remove", "os.rmdir", "os.scandir", "fcntl.flock"}
FILES = ("one", "two", "three")

Place = tuple[str, str]
places = st.tuples(st.sampled_from(["wheels", "environments"]), st.sampled_from(["a", "b"]))
keys = st.sampled_from(["a", "b"])
texts = st.sampled_from(["x", "y"])


def fork(work: Callable[[], object]) -> int:
    """A child that does this and ends; returns its pid."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(300)  # nobody outlives a test run that was killed
        try:
            work()
        finally:
            os._exit(0)
    return pid


def killed_at(step: int, action: Callable[[], object]) -> None:
    """Do this in a process that is killed before its n-th step, or ends if there are fewer."""

    def work() -> None:
        left = step

        def count(event: str, _: object) -> None:
            nonlocal left
            if event in STEPS:
                left -= 1
                if left == 0:
                    os.kill(os.getpid(), signal.SIGKILL)

        sys.addaudithook(count)
        action()

    os.waitpid(fork(work), 0)


def fill(path: Path, text: str) -> None:
    for name in FILES:
        (path / name).write_text(text)


def publish(store: Store, key: str, text: str) -> None:
    with store.publish("wheels", key, {"text": text}) as staging:
        fill(staging, text)


def build(store: Store, key: str, text: str) -> None:
    with store.build("environments", key, {"text": text}) as path:
        fill(path, text)


class Holder:
    """A process that took something and would never give it back; `end` kills it."""

    def __init__(self, kind: str, place: Place, take: Callable[[Callable[[], None]], None]) -> None:
        self.kind = kind
        self.place = place
        said, says = os.pipe()

        def stay() -> NoReturn:
            os.write(says, b".")
            while True:
                signal.pause()

        self.pid = fork(lambda: take(stay))
        os.close(says)
        assert os.read(said, 1) == b"."
        os.close(said)

    def end(self) -> None:
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)


class StoreMachine(RuleBasedStateMachine):
    """The model: what is published where, and who lives and holds what."""

    holders = Bundle("holders")

    def __init__(self) -> None:
        super().__init__()
        self.root = Path(tempfile.mkdtemp())
        self.store = Store(self.root)
        self.there: dict[Place, str] = {}
        self.living: list[Holder] = []

    def held(self, place: Place) -> bool:
        return place in [holder.place for holder in self.living if holder.kind != "stage"]

    def builds(self, key: str) -> bool:
        return any(h.kind == "build" and h.place[1] == key for h in self.living)

    def look(self, place: Place) -> str | None:
        entry = self.store.get(*place)
        return None if entry is None else entry.about["text"]

    def settle(self, place: Place, possible: set[str | None]) -> None:
        """After a crash the entry is one of these; from now on the model knows which."""
        found = self.look(place)
        assert found in possible
        if found is None:
            self.there.pop(place, None)
        else:
            self.there[place] = found

    # what goes well

    @rule(key=keys, text=texts)
    def publish(self, key: str, text: str) -> None:
        if not self.held(("wheels", key)) or ("wheels", key) in self.there:
            publish(self.store, key, text)
            self.there.setdefault(("wheels", key), text)

    @rule(key=keys, text=texts)
    def build(self, key: str, text: str) -> None:
        if not self.builds(key):
            build(self.store, key, text)
            self.there["environments", key] = text

    @rule(place=places)
    def remove(self, place: Place) -> None:
        exists = self.store.path(*place).exists()
        assert self.store.remove(*place) == (exists and not self.held(place))
        if not self.held(place):
            self.there.pop(place, None)

    @rule()
    def sweep(self) -> None:
        self.store.sweep()
        self.nothing_is_left_over()

    # who holds something

    @rule(target=holders, place=places)
    def lease_elsewhere(self, place: Place) -> Holder:
        def take(stay: Callable[[], None]) -> None:
            with self.store.lease(*place):
                stay()

        return self.join(Holder("lease", place, take))

    @rule(target=holders, key=keys, text=texts)
    def stage_elsewhere(self, key: str, text: str) -> Holder:
        def take(stay: Callable[[], None]) -> None:
            with self.store.publish("wheels", key, {"text": text}):
                stay()

        return self.join(Holder("stage", ("wheels", key), take))

    @precondition(lambda self: not self.builds("a"))
    @rule(target=holders)
    def build_elsewhere(self) -> Holder:
        def take(stay: Callable[[], None]) -> None:
            with self.store.build("environments", "a", {"text": "x"}) as path:
                (path / FILES[0]).touch()
                stay()

        holder = self.join(Holder("build", ("environments", "a"), take))
        self.there.pop(holder.place, None)
        return holder

    def join(self, holder: Holder) -> Holder:
        self.living.append(holder)
        return holder

    @rule(holder=consumes(holders))
    def kill(self, holder: Holder) -> None:
        holder.end()
        self.living.remove(holder)

    # who dies at work

    @rule(key=keys, text=texts, step=st.integers(1, 16))
    def die_publishing(self, key: str, text: str, step: int) -> None:
        place = ("wheels", key)
        if self.held(place):
            return
        before = self.there.get(place)
        killed_at(step, lambda: publish(self.store, key, text))
        self.settle(place, {before} if before else {None, text})

    @rule(key=keys, text=texts, step=st.integers(1, 12))
    def die_building(self, key: str, text: str, step: int) -> None:
        if not self.builds(key):
            before = self.there.get(("environments", key))
            killed_at(step, lambda: build(self.store, key, text))
            self.settle(("environments", key), {None, before, text})

    @rule(place=places, step=st.integers(1, 12))
    def die_removing(self, place: Place, step: int) -> None:
        before = self.there.get(place)
        killed_at(step, lambda: self.store.remove(*place))
        self.settle(place, {before} if self.held(place) else {None, before})

    @rule(step=st.integers(1, 40))
    def die_sweeping(self, step: int) -> None:
        killed_at(step, self.store.sweep)

    # what always holds

    @invariant()
    def entries_are_absent_or_whole(self) -> None:
        for room in ("wheels", "environments"):
            found = {(room, entry.key): entry for entry in self.store.entries(room)}
            assert {place: entry.about["text"] for place, entry in found.items()} == {
                place: text for place, text in self.there.items() if place[0] == room
            }
            for place, entry in found.items():
                assert {*FILES, MARKER} <= set(os.listdir(entry.path))
                assert all((entry.path / name).read_text() == self.there[place] for name in FILES)

    def nothing_is_left_over(self) -> None:
        staged = sum(holder.kind == "stage" for holder in self.living)
        for room in ("wheels", "environments"):
            names = os.listdir(self.root / room)
            assert sum(name.startswith(".") for name in names) == (
                staged if room == "wheels" else 0
            )
            for name in names:
                place = (room, name)
                assert name.startswith(".") or place in self.there or self.held(place)

    def teardown(self) -> None:
        for holder in self.living:
            holder.end()
        self.living.clear()
        self.store.sweep()
        self.nothing_is_left_over()
        self.entries_are_absent_or_whole()
        shutil.rmtree(self.root)


TestStoreCrashes = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)(StoreMachine.TestCase)
TestStoreCrashes.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
