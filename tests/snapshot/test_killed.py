"""Whoever is killed, and in whichever state of a save or a restore: the kernel is as it was."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.faulty import Broken, assert_untouched, killed_while_it_saves
from tests.snapshot.kernels import Kernel, kernel, ours
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot.process import State

pytestmark = pytest.mark.criu

# A cell after which a save kills somebody as soon as it has entered a state.
IN_STATE = """
import os, signal
import zerostart_jupyter.snapshot as z
from zerostart_jupyter.snapshot import dumper, process
x, helpers = 1, []
_start, _enter = dumper.Dumper.start, process.Save.enter
def start(self, *given):
    _start(self, *given)
    helpers.append(self._process.pid)
def enter(self, state, undo=None):
    _enter(self, state, undo)
    if state == {state!r}: os.kill({victim}, signal.SIGKILL)
dumper.Dumper.start, process.Save.enter = start, enter
"""
HELPED = [State.QUIESCING, State.DUMPING, State.RESUMING, State.INDEXING]
SERVED = [State.PREFLIGHT, *HELPED, State.READY]


@pytest.fixture
def python(with_criu: Path) -> Iterator[Kernel]:
    with kernel() as made:
        yield made


@pytest.fixture
def fragile(broken: Broken) -> Iterator[Kernel]:
    """A kernel whose CRIU does as `broken` says."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 0")
        yield made


@pytest.mark.parametrize("state", HELPED)
def test_the_helper_is_killed_in_each_state(python: Kernel, private: Path, state: State) -> None:
    python.run(IN_STATE.format(state=str(state), victim="helpers[-1]"))
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("SnapshotError"), error
    assert_untouched(python, private)


@pytest.mark.parametrize("state", SERVED)
def test_the_server_is_killed_in_each_state(with_criu: Path, state: State) -> None:
    cell = IN_STATE.format(state=str(state), victim="os.getppid()")
    killed_while_it_saves(cell)
    eventually(lambda: not ours(with_criu))
    Store(with_criu / "cache").sweep()
    names = {path.name for path in (with_criu / "cache" / "snapshots").glob("*")}
    assert names == {each.id for each in snapshot.snapshots()}
    for each in snapshot.snapshots():
        assert snapshot.verify(each.name).name == "one"


@pytest.mark.parametrize("again", [False, True])
def test_criu_is_killed_while_it_restores(
    fragile: Kernel, broken: Broken, private: Path, again: bool
) -> None:
    python = fragile
    broken.does('exec $real "$@"')
    python.run("s = z.snapshot('one')")
    if again:
        python.run("z.restore('one')")
    python.run("x = 1")
    before = {each.pid for each in ours(private)}
    broken.does(
        '$real "$@" & pid=$!\n'
        "while [ $(wc -w < /proc/$$/task/$$/children) -lt 2 ]; do kill -0 $pid || break; done\n"
        "kill -KILL $pid; wait $pid; exit 137",  # with processes half restored
        action="restore",
    )
    assert python.attempt("z.restore('one')").error.startswith("CriuFailed")
    assert python.run("x") == "1"
    eventually(python.client.hb_channel.is_beating)
    eventually(lambda: {each.pid for each in ours(private)} <= before)


@pytest.mark.parametrize(
    "count", [5, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
)
def test_output_of_cells_sent_while_the_kernel_is_frozen_is_never_lost(
    fragile: Kernel, broken: Broken, private: Path, count: int
) -> None:
    go = private / "go"
    broken.does(f'until rm {go} 2>/dev/null; do sleep 0.01; done\nexec $real "$@"')
    for number in range(count):
        broken.started.unlink(missing_ok=True)
        fragile.client.execute("z.snapshot('one', replace=True)", store_history=False)
        eventually(broken.started.exists)
        asked = fragile.client.execute(f"print('cell', {number})\n{number} * 2")
        go.touch()
        assert fragile.output_of(asked) == [f"cell {number}\n", str(number * 2)]
