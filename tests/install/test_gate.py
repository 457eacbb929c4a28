from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import signal
import sys
import threading
import timeit
from importlib.machinery import EXTENSION_SUFFIXES
from pathlib import Path
from typing import Any

import pytest

from tests.install.coming import Coming, in_thread
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import inherited
from zerostart_jupyter.install.gate import Gate, Pending, gate
from zerostart_jupyter.install.imports import ImportNames, import_names


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


def test_what_the_standard_library_looks_for_is_no_wheels(coming: Coming) -> None:
    """`copy` and `pickle` try Jython's `org.python`: every notebook would wait for all names."""
    body = compile("import gt_unknown", "copy.py", "exec")
    with pytest.raises(ModuleNotFoundError):
        exec(body, {"__name__": "copy"})
    assert coming.pending.unnamed


def test_what_it_looks_for_on_behalf_of_others_is_waited_for(coming: Coming) -> None:
    body = compile("def load():\n    import gt_unknown", "pickle.py", "exec")
    library: dict[str, Any] = {"__name__": "pickle"}
    exec(body, library)
    said: list[BaseException] = []

    def load() -> None:
        try:
            library["load"]()
        except ModuleNotFoundError as error:
            said.append(error)

    thread = threading.Thread(target=load)
    thread.start()
    thread.join(0.1)
    assert thread.is_alive()
    for name in ("gt-one", "gt-two", "gt-three"):
        coming.claim(name, f"{name.replace('-', '_')}.py")
    thread.join(PATIENCE)
    assert len(said) == 1


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


def test_other_imports_go_on_while_one_is_asked_for(
    coming: Coming, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Who is asked has a lock of its own, and may import something with it."""
    coming.claim("gt-one", "gt_one.py")
    busy = threading.Event()
    asked, demand = threading.Event(), coming.pending._demand

    def wait_first(name: str) -> None:
        asked.set()
        busy.wait(PATIENCE)
        demand(name)

    monkeypatch.setattr(coming.pending, "_demand", wait_first)
    thread, _ = in_thread("gt_one")
    assert asked.wait(PATIENCE)
    sys.modules.pop("colorsys", None)
    other, said = in_thread("colorsys")
    other.join(PATIENCE / 6)
    went_on = not other.is_alive()
    busy.set()
    assert coming.asked.wait(PATIENCE)
    coming.pending.fail(NetworkError("gone", remedy="x"))
    for each in thread, other:
        each.join(PATIENCE)
    assert went_on
    assert said == [sys.modules["colorsys"]]


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
