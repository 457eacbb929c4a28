"""The words for what runs."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

from zerostart_jupyter.core import wording
from zerostart_jupyter.core.activity import Item, OperationView
from zerostart_jupyter.core.events import State

MIB, GIB = 1 << 20, 1 << 30
ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (0, "0 B"),
        (1023, "1023 B"),
        (2048, "2 KiB"),
        (3.2 * MIB, "3.2 MiB"),
        (1.4 * GIB, "1.40 GiB"),
    ],
)
def test_size(count: float, said: str) -> None:
    assert wording.size(count) == said


@pytest.mark.parametrize(("count", "said"), [(12.3e6, "12.3 MB/s"), (1.6e9, "1.60 GB/s")])
def test_rate(count: float, said: str) -> None:
    assert wording.rate(count) == said


@pytest.mark.parametrize(("count", "said"), [(0.04, "0.04 s"), (3.2, "3.2 s"), (125, "2 min 5 s")])
def test_seconds(count: float, said: str) -> None:
    assert wording.seconds(count) == said


def test_one_and_many() -> None:
    assert [wording.counted(count, "wheel") for count in (0, 1, 3)] == [
        *("0 wheels", "1 wheel", "3 wheels"),
    ]


def view(
    state: State,
    *,
    kind: str = "load",
    done: float = 0,
    total: float | None = None,
    unit: str = "bytes",
    error: str | None = None,
    items: tuple[Item, ...] = (),
) -> OperationView:
    return OperationView("x-1", kind, "a", state, 0, 2, done, total, unit, error, items)


@pytest.mark.parametrize(
    ("shown", "said"),
    [
        (view(State.WAITING), "Loading a"),
        (view(State.RUNNING, kind="unheard of"), "unheard of a"),
        (view(State.RUNNING, done=GIB), "Loading a  1.00 GiB, 536.9 MB/s"),
        (
            view(State.RUNNING, done=GIB, total=2 * GIB),
            "Loading a  ━━━━━━━━━━━━              50%"
            "  1.00 GiB of 2.00 GiB, 536.9 MB/s  2.0 s left",
        ),
        (
            view(
                State.RUNNING,
                kind="snapshot",
                unit="steps",
                items=(Item("dump", State.RUNNING, 0, None, "steps", None),),
            ),
            "Saving snapshot a  dump",
        ),
        (view(State.DONE, done=MIB), "✓ Loaded a: 1.0 MiB in 2.0 s"),
        (view(State.DONE, kind="restore", unit="steps", done=3), "✓ Restored a in 2.0 s"),
        (view(State.FAILED, error="No space."), "✗ Loading a failed: No space."),
        (view(State.CANCELLED), "✗ Loading a was cancelled."),
    ],
)
def test_line(shown: OperationView, said: str) -> None:
    assert wording.line(shown) == said


def test_a_bar_gives_way_to_words() -> None:
    shown = view(
        State.RUNNING,
        done=GIB,
        total=2 * GIB,
        items=(Item("a-file.safetensors", State.RUNNING, 0, None, "bytes", None),),
    )
    words = "1.00 GiB of 2.00 GiB, 536.9 MB/s  2.0 s left  a-file.safetensors"
    assert wording.line(shown, width=200) == f"Loading a  {'━' * 12:<24}  50%  {words}"
    assert wording.line(shown, width=90) == f"Loading a  {'━' * 4:<8}  50%  {words}"
    assert wording.line(shown, width=80) == f"Loading a  {'━' * 3:<6}  50%  {words}"[:80]


def test_a_line_is_cut_to_the_terminal() -> None:
    assert len(wording.line(view(State.RUNNING, done=1, total=2), width=7)) == 7


def test_a_reason_is_told_whole_or_not_at_all() -> None:
    failed = view(State.FAILED, error="x" * 200)
    assert wording.line(failed, width=20) == f"✗ Loading a failed: {'x' * 200}"
    assert wording.line(failed, why=False) == "✗ Loading a failed."


@pytest.mark.parametrize(
    ("state", "said"),
    [
        (State.DONE, "✓ Loaded a and 9 more: 1.0 MiB in 2.0 s"),
        (State.FAILED, "✗ Loading a and 9 more failed: No."),
        (State.CANCELLED, "✗ Loading a and 9 more were cancelled."),
    ],
)
def test_a_line_for_several(state: State, said: str) -> None:
    assert wording.line(view(state, done=MIB, error="No."), more=9) == said


def kinds() -> set[str]:
    """Every kind of operation that the package opens."""
    return {
        ast.literal_eval(node.args[0])
        for path in ROOT.glob("zerostart_jupyter/**/*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] == "operation"
    }


def test_each_kind_has_its_words_here_and_in_the_panel() -> None:
    panel = (ROOT / "labextension" / "src" / "wording.ts").read_text()
    assert {"install", "load", "snapshot", "park"} <= kinds()
    assert kinds() == set(wording._DOING) == set(wording._DID)
    assert kinds() == set(re.findall(r"case '(\w+)':", panel))
