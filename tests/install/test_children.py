"""Processes that are started while packages arrive: what they see is what their parent sees."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.servers.index import Behaviour, Index
from zerostart_jupyter.core.errors import NetworkError
from zerostart_jupyter.install import children
from zerostart_jupyter.install.activation import activate, landed, site_of
from zerostart_jupyter.install.gate import Pending, gate
from zerostart_jupyter.install.imports import import_names

PATIENCE = 90.0
POINTS = "[zs.group]\nfirst = zs_child:X\n"


class Child:
    """A Python process that says where it is, line by line."""

    def __init__(self, *words: str, **environ: str) -> None:
        self.process = subprocess.Popen(
            words,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, **environ},
        )

    def line(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def end(self) -> tuple[str, str]:
        return self.process.communicate(timeout=PATIENCE)

    @property
    def running(self) -> bool:
        try:
            self.process.wait(0.3)
        except subprocess.TimeoutExpired:
            return True
        return False


def python(code: str, *words: str, **environ: str) -> Child:
    return Child(sys.executable, *words, "-c", code, **environ)


@pytest.fixture
def held(index: Index) -> threading.Event:
    """A wheel of which most bytes are held back, and one that arrives at once."""
    late = make(
        "zs-child",
        files={"zs_child/__init__.py": b"X = 7\n", "zs_child/blob": noise(3 << 20)},
        entry_points=POINTS,
        requires=["zs-early"],
    )
    publish(index, late, make("zs-early"))
    hold = threading.Event()
    index.behaviour[late.filename] = Behaviour(hold=hold)
    return hold


def test_an_import_waits_in_a_child_for_its_own_package_only(
    bring: Bring, held: threading.Event
) -> None:
    found = bring("zs-child", wait=False)
    child = python(
        "import zs_early; print(zs_early.NAME, flush=True)\n"
        "import zs_child; print(zs_child.X, zs_child.__file__)"
    )
    assert child.line() == "zs-early"
    assert child.running
    held.set()
    out, errors = child.end()
    assert out.split() == ["7", str(found.site_packages / "zs_child/__init__.py")], errors


def test_find_spec_metadata_and_entry_points_are_the_parents(
    bring: Bring, held: threading.Event
) -> None:
    found = bring("zs-child", wait=False)
    child = python(
        "import importlib.metadata as m, importlib.util as u\n"
        "print([e.name for e in m.entry_points(group='zs.group')], flush=True)\n"
        "names = {d.name for d in m.distributions()}\n"
        "print(sorted(each for each in names if each.startswith('zs-')), flush=True)\n"
        "print(u.find_spec('zs_nowhere_at_all'), flush=True)\n"
        "print(u.find_spec('zs_child').origin, m.version('zs-child'))"
    )
    assert child.line() == "['first']"
    assert child.line() == "['zs-child', 'zs-early']"
    assert child.line() == "None"
    assert child.running
    held.set()
    out, errors = child.end()
    assert out.split() == [str(found.site_packages / "zs_child/__init__.py"), "1.0"], errors


@pytest.mark.parametrize("method", ["spawn", "forkserver"])
def test_multiprocessing_waits_too(
    bring: Bring, held: threading.Event, tmp_path: Path, method: str
) -> None:
    bring("zs-child", wait=False)
    script = tmp_path / "script.py"
    script.write_text(
        "import multiprocessing, sys\n"
        "def work(n):\n    import zs_child\n    return n * zs_child.X\n"
        "if __name__ == '__main__':\n"
        f"    with multiprocessing.get_context({method!r}).Pool(2) as pool:\n"
        "        print(pool.apply(len, ['abc']), flush=True)\n"
        "        print(pool.map(work, [1, 2]))\n"
    )
    child = Child(sys.executable, str(script))
    assert child.line() == "3"
    assert child.running
    held.set()
    out, errors = child.end()
    assert out.strip() == "[7, 14]", errors


def test_the_users_own_sitecustomize_still_runs(
    bring: Bring, held: threading.Event, tmp_path: Path
) -> None:
    (tmp_path / "users").mkdir()
    (tmp_path / "users/sitecustomize.py").write_text("import sys\nsys.mine = 'yes'\n")
    bring("zs-early", "zs-child", wait=False)
    path = os.pathsep.join([os.environ["PYTHONPATH"], str(tmp_path / "users")])
    code = (
        "import sys, sitecustomize, zs_early\n"
        "print(sys.mine, sitecustomize.__file__, [p for p in sys.path if 'children' in p])"
    )
    out, errors = python(code, PYTHONPATH=path).end()
    assert out.split() == ["yes", str(tmp_path / "users/sitecustomize.py"), "[]"], errors
    (tmp_path / "users/sitecustomize.py").write_text("import zs_nowhere_at_all\n")
    out, errors = python("print('goes on')", PYTHONPATH=path).end()
    assert out.strip() == "goes on"
    assert "zs_nowhere_at_all" in errors  # as it would be without us
    held.set()


@pytest.mark.parametrize("words", [["-I"], ["-E"], ["-S"]])
def test_who_wants_nothing_of_the_surroundings_gets_nothing(
    bring: Bring, held: threading.Event, words: list[str]
) -> None:
    bring("zs-child", wait=False)
    out, errors = python("import sys; print(len(sys.meta_path))", *words).end()
    plain = python("import sys; print(len(sys.meta_path))", *words, PYTHONPATH="").end()
    assert (out, errors) == plain
    held.set()


def test_another_environment_keeps_to_its_own_packages(
    bring: Bring, held: threading.Event, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", str(other)], check=True, timeout=PATIENCE
    )
    found = bring("zs-early", "zs-child", wait=False)
    child = Child(
        str(other / "bin/python"),
        "-c",
        f"import sys; print({str(found.site_packages)!r} in sys.path, len(sys.meta_path))\n"
        "import zs_child",
    )
    out, errors = child.end()
    assert out.startswith("False ")
    assert "No module named 'zs_child'" in errors
    held.set()


def test_a_program_is_there_before_its_package_and_waits(bring: Bring, index: Index) -> None:
    late = make(
        "zs-tool",
        files={
            "zs_tool.py": b"import zs_lib\ndef main():\n    print(zs_lib.NAME)\n",
            "zs_tool.bin": noise(3 << 20),
        },
        entry_points="[console_scripts]\nzs-tool = zs_tool:main\n",
    )
    publish(index, late, make("zs-lib"))
    hold = threading.Event()
    index.behaviour[late.filename] = Behaviour(hold=hold)
    found = bring("zs-tool", "zs-lib", wait=False)
    gate.pending[0].wait_named()
    child = Child("zs-tool")  # found on PATH
    assert child.running
    hold.set()
    out, errors = child.end()
    assert out.strip() == "zs-lib", errors
    assert found.wait(PATIENCE).bin.joinpath("zs-tool").is_file()


def test_a_failure_reaches_the_child_in_a_line(bring: Bring, held: threading.Event) -> None:
    found = bring("zs-child", wait=False)
    child = python("import zs_child")
    assert child.running
    found.cancel()
    _, errors = child.end()
    assert "ImportError: zs_child will not come: " in errors
    assert "cancelled" in errors.splitlines()[-1]
    held.set()


@pytest.fixture
def arriving(tmp_path: Path) -> Iterator[Pending]:
    """An environment of which nothing has come yet, told of by a process that has ended."""
    root = tmp_path / "env"
    site_of(root).mkdir(parents=True)
    landed(root, "x").parent.mkdir(parents=True)
    pending = Pending(root, ["gt-one", "gt-two"], lambda _: None, lambda name: [name])
    pending.guess("gt-one", import_names(["gt_one.py"]))
    activate(root)
    yield pending
    gate.release(pending)


def test_what_the_standard_library_looks_for_is_not_waited_for_in_a_child_either(
    arriving: Pending, tmp_path: Path
) -> None:
    children.tell(arriving, tmp_path / "no-lock")
    # Jython's `org.python` is tried by both; and by Python itself, what may adapt it at its start.
    out, errors = python("import copy, pickle; print('here')").end()
    assert out == "here\n", errors


def test_nobody_waits_for_a_process_that_has_ended(arriving: Pending, tmp_path: Path) -> None:
    children.tell(arriving, tmp_path / "no-lock")
    state = children.folder(arriving.root) / "arriving.json"
    body = json.loads(state.read_text())
    ended = subprocess.Popen(["true"])
    ended.wait(PATIENCE)
    state.write_text(json.dumps({**body, "pid": ended.pid}))
    for name in ("gt_one", "gt_of_an_unknown_wheel"):
        _, errors = python(f"import {name}").end()
        assert f"No module named '{name}'" in errors


def test_who_has_the_lock_brings_it(arriving: Pending, tmp_path: Path) -> None:
    """The process that told may have ended while another one goes on with the environment."""
    from zerostart_jupyter.core.flocks import Flock

    children.tell(arriving, tmp_path / "lock")
    state = children.folder(arriving.root) / "arriving.json"
    state.write_text(json.dumps({**json.loads(state.read_text()), "born": "another time"}))
    lock = Flock.on_file(tmp_path / "lock")
    assert lock is not None
    try:
        child = python("import gt_of_a_wheel as g; print(g.X)")
        assert child.running
        (site_of(arriving.root) / "gt_of_a_wheel.py").write_text("X = 3\n")
        arriving.claim("gt-two", import_names(["gt_of_a_wheel.py"]))
        for name in ("gt-one", "gt-two"):
            landed(arriving.root, name).touch()
        out, errors = child.end()
        assert out.strip() == "3", errors
    finally:
        lock.release()


def test_parts_of_a_shared_namespace_are_waited_for_alone(
    arriving: Pending, tmp_path: Path
) -> None:
    arriving.claim("gt-one", import_names(["gt_ns/one/__init__.py"]))
    arriving.claim("gt-two", import_names(["gt_ns/two/__init__.py"]))
    children.tell(arriving, tmp_path / "no-lock")
    site = site_of(arriving.root)
    (site / "gt_ns/one").mkdir(parents=True)
    (site / "gt_ns/one/__init__.py").touch()
    landed(arriving.root, "gt-one").touch()
    child = python("import gt_ns.one; print('one', flush=True); import gt_ns.two; print('two')")
    assert child.line() == "one"
    assert child.running
    arriving.fail(NetworkError("It is gone.", remedy=""))
    children.tell(arriving, tmp_path / "no-lock")
    assert "gt_ns.two will not come: It is gone." in child.end()[1]
