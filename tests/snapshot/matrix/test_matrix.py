"""Every kind of state that a kernel can have is restored right, or refused beforehand by name.

States share kernels; `make test-all` also gives each a kernel of its own. Restored kernels of root
and of an ordinary user are held to the same table: `WAYS` says how a kernel is started.
"""

from __future__ import annotations

import ast
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.snapshot.conftest import separate, share_criu
from tests.snapshot.kernels import Cells, eventually, kernel, ours
from tests.snapshot.matrix import files, harness, memory, running, sockets
from tests.snapshot.matrix.harness import Outside, Verdicts, started
from tests.snapshot.matrix.state import State
from tests.snapshot.matrix.table import STATES

pytestmark = pytest.mark.criu

SHARED = ("number", "allow", "way", "fork")  # what cells use and leave
WAYS = ["root"]  # and "rootless", once a kernel can be started so

Work = Callable[[Cells, Sequence[State]], Verdicts]


def _plain(states: Sequence[State]) -> list[State]:
    return [each for each in states if not (each.refused_here or each.beside or each.apart)]


def _marks(state: State) -> list[pytest.MarkDecorator]:
    return [pytest.mark.jemalloc] if "jemalloc" in state.environ.get("LD_PRELOAD", "") else []


GROUPS: dict[str, list[State]] = {
    "running": _plain(running.STATES),
    "memory": _plain(memory.STATES),
    "descriptors": _plain([*files.STATES, *sockets.STATES]),
    "beside": [each for each in STATES if each.beside],
    "refused": [each for each in STATES if each.refused_here and not each.apart],
} | {each.name: [each] for each in STATES if each.apart}
MEMBERS = [
    pytest.param(group, state, id=state.name, marks=_marks(state))
    for group, states in GROUPS.items()
    for state in states
]


@pytest.fixture(scope="module", params=WAYS)
def place(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    """Where kernels of this module write; nothing of theirs may be left running."""
    folder = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        separate(folder, patch)
        share_criu(folder)
        yield folder
        eventually(lambda: not ours(folder))


@pytest.fixture(scope="module")
def verdicts(place: Path) -> Callable[[str], Verdicts]:
    """What became of the states of a group, which is tried once."""
    known: dict[str, Verdicts] = {}

    def tried(group: str) -> Verdicts:
        if group not in known:
            known[group] = Verdicts()  # for the others, should this one fail
            known[group] = tried_in(place, GROUPS[group])
        return known[group]

    return tried


def tried_in(place: Path, states: Sequence[State]) -> Verdicts:
    """Have one kernel make these states, which go together."""
    first = states[0]
    with tempfile.TemporaryDirectory(dir=place) as folder, Outside(Path(folder)) as outside:
        if first.beside:
            with started(place, outside) as cells:
                found = harness.afterwards(cells, states)
            with kernel("zerostart-one") as restored:
                found.look(restored, states, "restored", restored=True)
            return found
        work: Work = harness.refused if first.refused_here else harness.in_place
        with started(place, outside, first) as cells:
            return work(cells, states)


@pytest.mark.parametrize(("group", "state"), MEMBERS)
def test_it_is_restored_right_or_refused_by_name(
    verdicts: Callable[[str], Verdicts], group: str, state: State
) -> None:
    assert verdicts(group).wrong.get(state.name, []) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "state", [pytest.param(each, id=each.name, marks=_marks(each)) for each in STATES]
)
def test_it_is_so_in_a_kernel_of_its_own(place: Path, state: State) -> None:
    assert tried_in(place, [state]).wrong == {}


def test_no_two_states_use_one_name() -> None:
    owners: dict[str, str] = {}
    for state in STATES:
        for name in _assigned(state.make) - {"_", *SHARED}:
            assert owners.setdefault(name, state.name) == state.name, name


def _assigned(code: str) -> set[str]:
    """Names that a cell binds as its own; those of loops within an expression are not."""
    tree = ast.parse(textwrap.dedent(code).strip(), mode="exec")
    inner = {
        name.id
        for each in ast.walk(tree)
        if isinstance(each, ast.comprehension)
        for name in ast.walk(each.target)
        if isinstance(name, ast.Name)
    }
    bound = {
        node.id
        for node in ast.walk(tree)
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)
    }
    made = {
        node.name
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
    }
    return bound - inner | made
