from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import os
import select
import signal
import subprocess
import sys
import threading
import timeit
from collections.abc import Iterator
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import children, inherited
from zerostart_jupyter.install.activation import activate, landed, site_of
from zerostart_jupyter.install.gate import Gate, Pending, gate
from zerostart_jupyter.install.imports import ImportNames, import_names

PATIENCE = 60.0


class Coming:
    """An environment that the test fills by hand."""

    def __init__(self, root: Path, needs: dict[str, list[str]]) -> None:
        self.root = root
        self.demanded: list[str] = []
        self.asked = threading.Event()
        self._needs = needs
        site_of(root).mkdir(parents=True)
        landed(root, "x").parent.mkdir(parents=True)
        self.pending = Pending(root, needs, self._demand, self._closure)
        gate.open(self.pending)
        activate(root)

    def _demand(self, name: str) -> None:
        self.demanded.append(name)
        self.asked.set()

    def _closure(self, name: str) -> set[str]:
        found, todo = set(), [name]
        while todo:
            each = todo.pop()
            if each not in found:
                found.add(each)
                todo += self._needs.get(each, [])
        return found

    def claim(self, name: str, *paths: str, files: dict[str, str] | None = None) -> None:
        self.pending.claim(name, import_names(paths), files)

    def write(self, path: str, text: str = "") -> None:
        file = site_of(self.root) / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)

    def land(self, name: str) -> None:
        landed(self.root, name).touch()
        self.pending.land(name)


@pytest.fixture
def coming(tmp_path: Path) -> Iterator[Coming]:
    found = Coming(tmp_path / "env", {"gt-one": ["gt-two"], "gt-two": [], "gt-three": []})
    yield found
    gate.release(found.pending)


def in_thread(module: str) -> tuple[threading.Thread, list[object]]:
    said: list[object] = []

    def load() -> None:
        try:
            said.append(importlib.import_module(module))
        except BaseException as error:
            said.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    return thread, said


def test_an_import_waits_for_the_closure(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one/__init__.py")
    coming.claim("gt-two", "gt_two.py")
    coming.claim("gt-three", "gt_three.py")
    thread, said = in_thread("gt_one")
    assert coming.asked.wait(PATIENCE)
    coming.write("gt_one/__init__.py")
    coming.land("gt-one")
    thread.join(0.1)
    assert thread.is_alive()  # what it needs is not there
    coming.land("gt-two")
    thread.join(PATIENCE)
    assert said == [sys.modules["gt_one"]]
    assert coming.demanded == ["gt-one"]
    assert gate.pending == [coming.pending]  # gt-three is still awaited, by nobody


def test_absent_names_fail_at_once_when_all_names_are_known(coming: Coming) -> None:
    for name in ("gt-one", "gt-two", "gt-three"):
        coming.claim(name, f"{name.replace('-', '_')}.py")
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gt_absent")
    assert importlib.util.find_spec("gt_absent") is None
    assert coming.demanded == []


def test_unknown_names_wait_until_they_are_known(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one.py")
    coming.claim("gt-two", "gt_two.py")
    thread, said = in_thread("gt_other_name")
    thread.join(0.1)
    assert thread.is_alive()
    coming.write("gt_other_name.py", "X = 3")
    coming.claim("gt-three", "gt_other_name.py")
    assert coming.asked.wait(PATIENCE)
    coming.land("gt-three")
    thread.join(PATIENCE)
    assert said[0].X == 3  # type: ignore[attr-defined]


def test_other_imports_go_on_while_one_waits(coming: Coming) -> None:
    """Finders run under the interpreter's import lock; it is given back while one waits."""
    coming.claim("gt-one", "gt_one.py")
    thread, _ = in_thread("gt_one")
    assert coming.asked.wait(PATIENCE)
    sys.modules.pop("colorsys", None)
    other, said = in_thread("colorsys")
    other.join(PATIENCE)
    assert not other.is_alive()
    assert said == [sys.modules["colorsys"]]
    coming.pending.fail(NetworkError("gone", remedy="x"))
    thread.join(PATIENCE)


def test_an_interrupt_ends_the_waiting(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one.py")
    main = threading.main_thread().ident
    assert main is not None

    def interrupt() -> None:
        coming.asked.wait(PATIENCE)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        importlib.import_module("gt_one")
    thread.join(PATIENCE)
    coming.write("gt_one.py")
    coming.land("gt-one")
    coming.land("gt-two")
    assert importlib.import_module("gt_one")


def test_a_failure_is_raised_afresh_in_each(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one.py")
    first, said = in_thread("gt_one")
    assert coming.asked.wait(PATIENCE)
    error = NetworkError("The index is gone.", remedy="Run it again.")
    coming.pending.fail(error)
    first.join(PATIENCE)
    with pytest.raises(NetworkError, match="gone") as caught:
        importlib.import_module("gt_one")
    assert caught.value is not said[0]
    assert caught.value is not error


def test_a_shared_namespace_is_gated_by_its_parts(tmp_path: Path) -> None:
    coming = Coming(tmp_path / "env", {"gn-fft": [], "gn-blas": []})
    coming.claim("gn-fft", "gtnv/fft/__init__.py")
    coming.claim("gn-blas", "gtnv/blas/__init__.py")
    coming.write("gtnv/fft/__init__.py", "X = 1")
    coming.land("gn-fft")
    assert importlib.import_module("gtnv.fft").X == 1
    with pytest.raises(ModuleNotFoundError):
        importlib.import_module("gtnv.absent")
    thread, said = in_thread("gtnv.blas")
    assert coming.asked.wait(PATIENCE)
    assert coming.demanded == ["gn-blas"]
    coming.write("gtnv/blas/__init__.py", "X = 2")
    coming.land("gn-blas")
    thread.join(PATIENCE)
    assert said[0].X == 2  # type: ignore[attr-defined]


def test_a_shared_regular_package_too(tmp_path: Path) -> None:
    coming = Coming(tmp_path / "env", {"gr-a": [], "gr-b": []})
    coming.claim("gr-a", "gtreg/__init__.py", "gtreg/a.py")
    coming.claim("gr-b", "gtreg/__init__.py", "gtreg/b.py")
    coming.write("gtreg/__init__.py")
    coming.write("gtreg/a.py")
    coming.land("gr-a")
    assert importlib.import_module("gtreg.a")
    thread, said = in_thread("gtreg.b")
    assert coming.asked.wait(PATIENCE)
    coming.write("gtreg/b.py")
    coming.land("gr-b")
    thread.join(PATIENCE)
    assert said == [sys.modules["gtreg.b"]]


def test_metadata_by_name_waits(coming: Coming) -> None:
    said: list[str] = []
    thread = threading.Thread(target=lambda: said.append(importlib.metadata.version("GT.two")))
    thread.start()
    assert coming.asked.wait(PATIENCE)
    coming.write("gt_two-7.dist-info/METADATA", "Name: gt-two\nVersion: 7\n")
    coming.land("gt-two")
    thread.join(PATIENCE)
    assert said == ["7"]


def test_listing_shows_what_is_on_its_way(coming: Coming) -> None:
    points = "[console_scripts]\ngt-tool = gt_one:main\n"
    for name in ("gt-one", "gt-two", "gt-three"):
        texts = {"METADATA": f"Name: {name}\nVersion: 4\n", "entry_points.txt": points}
        coming.claim(name, f"{name.replace('-', '_')}.py", files=texts)
    found = {each.name for each in importlib.metadata.distributions()}
    assert {"gt-one", "gt-two", "gt-three"} <= found
    assert len(importlib.metadata.entry_points(name="gt-tool")) == 3
    assert coming.demanded == []  # nothing had to be fetched for it


def test_a_new_install_replaces_a_failed_one(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one.py")
    coming.pending.fail(NetworkError("gone", remedy="x"))
    again = Pending(coming.root, ["gt-one"], lambda _: None, lambda name: [name])
    gate.open(again)
    again.claim("gt-one", import_names(["gt_one.py"]))
    coming.write("gt_one.py")
    again.land("gt-one")
    assert importlib.import_module("gt_one")


def test_the_finders_stay_in_their_places(coming: Coming) -> None:
    before = list(sys.meta_path)
    for name in ("gt-one", "gt-two", "gt-three"):
        coming.land(name)
    assert sys.meta_path == before
    assert sum(isinstance(each, Gate) for each in sys.meta_path) == 1


def test_a_forked_child_goes_by_the_markers(coming: Coming) -> None:
    coming.claim("gt-three", "gt_three.py")
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.write(write, str(importlib.import_module("gt_three").X).encode())
        finally:
            os._exit(0)
    coming.write("gt_three.py", "X = 9")
    landed(coming.root, "gt-three").touch()
    os.waitpid(child, 0)
    os.close(write)
    assert os.read(read, 10) == b"9"
    os.close(read)


class Fork:
    """A forked child that imports a module, and says what came of it."""

    def __init__(self, module: str) -> None:
        self._read, write = os.pipe()
        self.pid = os.fork()
        if self.pid == 0:
            try:
                try:
                    said = str(importlib.import_module(module).X)
                except ImportError as error:
                    said = f"{type(error).__name__}: {error}"
                os.write(write, said.encode())
            finally:
                os._exit(0)
        os.close(write)

    def says(self) -> str:
        try:
            ready, _, _ = select.select([self._read], [], [], PATIENCE)
            assert ready, "it hangs"
            return os.read(self._read, 1000).decode()
        finally:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
            os.close(self._read)


@pytest.fixture
def told(coming: Coming, tmp_path: Path) -> Coming:
    """The same, of which children are told."""
    coming.pending.tell = lambda: children.tell(coming.pending, tmp_path / "no-lock")
    coming.pending.tell()
    return coming


def test_a_failure_reaches_a_forked_child(told: Coming) -> None:
    told.claim("gt-one", "gt_one.py")
    told.pending.tell()
    child = Fork("gt_one")
    told.pending.fail(NetworkError("The index is gone.", remedy=""))
    assert child.says() == "ImportError: gt_one will not come: The index is gone."


def test_a_forked_child_learns_a_name_that_is_told_later(told: Coming) -> None:
    child = Fork("gt_other_name")
    told.claim("gt-one", "gt_one.py")
    told.claim("gt-two", "gt_two.py")
    told.claim("gt-three", "gt_other_name.py")
    told.write("gt_other_name.py", "X = 4")
    told.land("gt-three")
    assert child.says() == "4"


def test_a_forked_child_is_told_of_names_that_nobody_has(told: Coming) -> None:
    child = Fork("gt_absent")
    for name in ("gt-one", "gt-two", "gt-three"):
        told.claim(name, f"{name.replace('-', '_')}.py")
    assert child.says() == "ModuleNotFoundError: No module named 'gt_absent'"


@pytest.mark.parametrize("module", ["gt_one", "gt_of_an_unknown_wheel"])
@pytest.mark.parametrize("tells", [True, False])
def test_a_forked_child_does_not_wait_for_a_parent_that_was_killed(
    module: str, tells: bool, tmp_path: Path
) -> None:
    script = tmp_path / "script.py"
    script.write_text(KILLED)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "env"), module, str(int(tells))],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])},
    )
    assert process.stdout is not None
    with process.stdout as said:
        first = said.readline()
        process.kill()
        process.wait(PATIENCE)
        ready, _, _ = select.select([said], [], [], PATIENCE)
        assert (first, ready) == ("waits\n", [said])
        assert said.readline() == f"No module named '{module}'\n"


KILLED = """
import importlib, os, signal, sys, threading
from pathlib import Path
from zerostart_jupyter.install import children
from zerostart_jupyter.install.activation import activate, landed, site_of
from zerostart_jupyter.install.gate import Pending, gate
from zerostart_jupyter.install.imports import import_names
root = Path(sys.argv[1])
site_of(root).mkdir(parents=True)
landed(root, "x").parent.mkdir(parents=True)
pending = Pending(root, ["gt-one", "gt-two"], lambda _: None, lambda name: [name])
gate.open(pending)
pending.guess("gt-one", import_names(["gt_one.py"]))
activate(root)
if sys.argv[3] == "1":
    children.tell(pending, root / "no-lock")
if os.fork() == 0:
    signal.alarm(100)  # whatever the test comes to
    threading.Timer(0.3, print, ["waits"], {"flush": True}).start()
    try:
        importlib.import_module(sys.argv[2])
    except ImportError as error:
        print(error, flush=True)
    os._exit(0)
signal.pause()
"""


def test_what_is_imported_lazily_waits_when_it_is_first_used(coming: Coming) -> None:
    """PEP 810 looks a module up, and runs it, at its first use; LazyLoader only runs it then."""
    coming.claim("gt-one", "gt_one.py")
    coming.claim("gt-two", "gt_two.py")
    coming.claim("gt-three", "gt_three.py")
    coming.write("gt_two.py", "import gt_three\nX = gt_three.X\n")
    coming.land("gt-two")
    spec = importlib.util.find_spec("gt_two")
    assert spec is not None
    assert spec.loader is not None
    spec.loader = importlib.util.LazyLoader(spec.loader)
    module = importlib.util.module_from_spec(spec)
    sys.modules["gt_two"] = module
    spec.loader.exec_module(module)
    assert coming.demanded == []  # nothing has run yet
    said: list[int] = []
    thread = threading.Thread(target=lambda: said.append(module.X))
    thread.start()
    assert coming.asked.wait(PATIENCE)
    assert coming.demanded == ["gt-three"]
    assert said == []
    coming.write("gt_three.py", "X = 8\n")
    coming.land("gt-three")
    thread.join(PATIENCE)
    assert said == [8]
    for name in ("gt_two", "gt_three"):
        del sys.modules[name]


def test_threads_of_the_install_itself_never_wait(coming: Coming) -> None:
    coming.claim("gt-one", "gt_one.py")
    thread, said = in_thread_of_ours("gt_one")
    thread.join(PATIENCE)
    assert isinstance(said[0], ModuleNotFoundError)


def in_thread_of_ours(module: str) -> tuple[threading.Thread, list[object]]:
    said: list[object] = []

    def load() -> None:
        try:
            importlib.import_module(module)
        except ImportError as error:
            said.append(error)

    thread = threading.Thread(target=load)
    gate.workers.add(thread)
    thread.start()
    return thread, said


def test_an_unrelated_import_costs_one_look_up() -> None:
    """No clock: the finder's code for a name nobody claims is one call and one test."""
    own = Gate()
    calls: list[str] = []
    sys.setprofile(lambda frame, event, _: calls.append(event))
    try:
        own.find_spec("json.decoder")
    finally:
        sys.setprofile(None)
    # itself, str.partition and dict.get, and the call that takes the profile away
    assert calls.count("call") == 1
    assert calls.count("c_call") == 3
    assert min(timeit.repeat(lambda: own.find_spec("json"), number=1000, repeat=5)) < 1


@pytest.mark.parametrize(
    ("paths", "roots"),
    [
        (["a.py", "a-1.dist-info/x"], {"a": set()}),
        (["a/__init__.py", "a/b.py", "a/c/d.py", "a/data.txt"], {"a": {"b", "c"}}),
        (["n/a/__init__.py", "n/b.py"], {"n.a": set(), "n.b": set()}),
        ([f"m{EXTENSION_SUFFIXES[0]}", "k.abi3.so"], {"m": set(), "k": set()}),
        (["nv/cu13/lib/libx.so.13"], {"nv.cu13": set()}),
        (["not-a-name/x.py", "numpy.libs/libblas.so"], {}),
        (["a/__pycache__/x.pyc"], {}),
    ],
)
def test_import_names_are_told_from_paths(paths: list[str], roots: dict[str, set[str]]) -> None:
    wanted = {root: frozenset(below) for root, below in roots.items()}
    assert import_names(paths) == ImportNames(wanted)


def test_threads_look_again_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Python's own function raises KeyError where another thread was first to forget an entry."""

    class Twice(dict[str, object]):
        def __delitem__(self, name: str) -> None:
            super().__delitem__(name)
            if name in gone:
                raise KeyError(name)

    gone = {"/nowhere/a", "/nowhere/b"}
    cache = Twice(sys.path_importer_cache) | dict.fromkeys(gone)
    monkeypatch.setattr(sys, "path_importer_cache", Twice(cache))
    inherited.look_again()
    assert not gone & sys.path_importer_cache.keys()
