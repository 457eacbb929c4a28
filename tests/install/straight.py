"""A wheel straight into a store and an environment: every check there is, but no index, no
threads and no network."""

from __future__ import annotations

from pathlib import Path

from tests.install.wheels import Wheel
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import wheel as rules
from zerostart_jupyter.install.archive import TAIL, find_end, read_directory
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.inflate import peek
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.unpack import StoredWheel, Unpacking

EARLY = ("METADATA", "entry_points.txt", "top_level.txt")


def locked(wheel: Wheel) -> Locked:
    return Locked(wheel.name, wheel.version, wheel.filename, "", wheel.sha256, len(wheel.data))


def take(store: Store, wheel: Wheel, *, step: int = 1 << 20) -> StoredWheel:
    """Publish a wheel whose bytes come `step` at a time; raises WheelRejected."""
    view = memoryview(wheel.data)
    rules.check_filename(wheel.filename, wheel.name, wheel.version)
    end = find_end(view[-TAIL:], len(view), wheel.filename)
    members = read_directory(view[end.start : end.stop], end, wheel.filename)
    layout = rules.lay_out(members, wheel.filename, wheel.name, wheel.version)
    for member in members:
        if member.name in {layout.member(file) for file in EARLY}:
            peek(member, view, 0, wheel.filename)
    unpacking = Unpacking(store, locked(wheel), members, layout)
    try:
        for run in unpacking.runs:
            for at in range(run.start, run.stop, step):
                run.feed(view[at : min(at + step, run.stop)])
        return unpacking.publish()
    finally:
        unpacking.abandon()


def install(store: Store, wheel: Wheel, root: Path, *, step: int = 1 << 20) -> Environment:
    """An environment of this one wheel; raises WheelRejected, and then it is empty."""
    found = take(store, wheel, step=step)
    environment = Environment(root)
    environment.prepare()
    environment.add(locked(wheel), found, 0)
    environment.mark(locked(wheel))
    return environment
