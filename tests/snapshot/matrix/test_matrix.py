"""Every kind of state that a kernel can have is restored right, or refused beforehand by name.

States share kernels; `make test-all` also gives each a kernel of its own. Kernels of root and of an
ordinary user are held to the same table: `WAYS` says how a kernel is started.
"""

from __future__ import annotations

import ast
import contextlib
import tempfile
import textwrap
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.conftest import separate, share_criu
from tests.snapshot.kernels import ours
from tests.snapshot.matrix import files, harness, memory, running, sockets
from tests.snapshot.matrix.harness import AsRoot, AsUser, Outside, Verdicts, Way, started
from tests.snapshot.matrix.state import State
from tests.snapshot.matrix.table import STATES
from tests.snapshot.ordinary import User

pytestmark = pytest.mark.criu

SHARED = ("number", "allow", "way", "fork")  # what cells use and leave
WAYS = {"root": False, "rootless": True}  # how a kernel is started: whether by an ordinary user


def _can_be_made(states: Sequence[State], *, ordinary: bool) -> list[State]:
    return [each for each in states if not (ordinary and each.root)]


def _groups(*, ordinary: bool) -> dict[str, list[State]]:
    """States that go together in one kernel."""

    def plain(states: Sequence[State]) -> list[State]:
        return [each for each in states if not (refused(each) or each.beside or each.apart)]

    def refused(state: State) -> bool:
        return bool(state.refusal(ordinary=ordinary))

    groups = {
        "running": plain(running.STATES),
        "memory": plain(memory.STATES),
        "descriptors": plain([*files.STATES, *sockets.STATES]),
        "beside": [each for each in STATES if each.beside],
        "refused": [each for each in STATES if refused(each) and not each.apart],
    } | {each.name: [each] for each in STATES if each.apart}
    made = {name: _can_be_made(states, ordinary=ordinary) for name, states in groups.items()}
    return {name: states for name, states in made.items() if states}


def _marks(state: State) -> list[pytest.MarkDecorator]:
    return [pytest.mark.jemalloc] if "jemalloc" in state.environ.get("LD_PRELOAD", "") else []


GROUPS = {way: _groups(ordinary=ordinary) for way, ordinary in WAYS.items()}
MEMBERS = [
    pytest.param(way, group, state, id=f"{way}-{state.name}", marks=_marks(state))
    for way, groups in GROUPS.items()
    for group, states in groups.items()
    for state in states
]
ALONE = [
    pytest.param(way, state, id=f"{way}-{state.name}", marks=_marks(state))
    for way, ordinary in WAYS.items()
    for state in _can_be_made(STATES, ordinary=ordinary)
]
Find = Callable[[str], Way]


@pytest.fixture(scope="module")
def find(tmp_path_factory: pytest.TempPathFactory, somebody: User) -> Iterator[Find]:
    """Ways to start a kernel, by name; nothing of theirs may be left running."""
    folder = tmp_path_factory.mktemp("matrix")
    with pytest.MonkeyPatch.context() as patch:
        separate(folder, patch)
        share_criu(folder)
        ways: dict[str, Way] = {"root": AsRoot(folder), "rootless": AsUser(somebody)}
        yield ways.__getitem__
        eventually(lambda: not ours(folder) and not ours(somebody.home))
        somebody.forget()


@pytest.fixture(scope="module")
def verdicts(find: Find) -> Callable[[str, str], Verdicts]:
    """What became of the states of a group, which is tried once."""
    known: dict[tuple[str, str], Verdicts] = {}

    def tried(way: str, group: str) -> Verdicts:
        if (way, group) not in known:
            known[way, group] = Verdicts()  # for the others, should this one fail
            known[way, group] = tried_in(find(way), GROUPS[way][group])
        return known[way, group]

    return tried


def tried_in(way: Way, states: Sequence[State]) -> Verdicts:
    """Have one kernel make these states, which go together."""
    first = states[0]
    with _public_folder() as folder, Outside(folder) as outside:
        with started(way, outside, first) as cells:
            if first.refusal(ordinary=way.ordinary):
                return harness.refused(cells, states, way)
            if not first.beside:
                return harness.in_place(cells, states)
            found = harness.afterwards(cells, states, way)
        with way.kernel("zerostart-one", {}) as restored:
            found.look(restored, states, "restored", restored=True)
        return found


@contextlib.contextmanager
def _public_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.mark.parametrize(("way", "group", "state"), MEMBERS)
def test_it_is_restored_right_or_refused_by_name(
    verdicts: Callable[[str, str], Verdicts], way: str, group: str, state: State
) -> None:
    assert verdicts(way, group).wrong.get(state.name, []) == []


@pytest.mark.slow
@pytest.mark.parametrize(("way", "state"), ALONE)
def test_it_is_so_in_a_kernel_of_its_own(find: Find, way: str, state: State) -> None:
    assert tried_in(find(way), [state]).wrong == {}


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
