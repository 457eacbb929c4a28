"""A script that was run before starts at once; whatever may have changed the answer is noticed."""

from __future__ import annotations

import fcntl
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.wheels import make
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import MARKER
from zerostart_jupyter.install import answers, replay

ROOT = Path(__file__).parents[2]
SCRIPT = """
import json, os, sys
again = "argparse" not in sys.modules
import zs_first, subprocess
child = subprocess.check_output([sys.executable, "-c", "import zs_first; print(zs_first.V)"])
print(json.dumps({
    "again": again, "words": sys.argv, "version": zs_first.V, "child": child.decode().strip(),
    "name": __name__, "file": __file__, "folder": sys.path[0], "path": os.environ["PATH"],
    "site": zs_first.__file__, "main": sys.modules["__main__"].zs_first is zs_first,
}))
sys.exit(int(os.environ.get("LEAVE", "0")))
"""


@dataclass
class Place:
    """A folder with a script, and what it is run with."""

    folder: Path
    index: Index
    environ: dict[str, str]
    options: list[str] = field(default_factory=lambda: ["-r", "needs.txt"])
    words: list[str] = field(default_factory=lambda: ["--", "a", "-b"])

    def run(self, *, status: int = 0) -> dict[str, object]:
        """What the script says, and what Python's own start would have said of the rest."""
        ran = self.ran()
        assert ran.returncode == status, ran.stderr
        said: dict[str, object] = json.loads(ran.stdout)
        return said

    def ran(self) -> subprocess.CompletedProcess[str]:
        process = self.start()
        out, errors = process.communicate(timeout=PATIENCE)
        return subprocess.CompletedProcess(process.args, process.returncode, out, errors)

    def start(self, *program: str) -> subprocess.Popen[str]:
        command = [sys.executable, *(program or ("-m", "zerostart")), "run", *self.options]
        command += ["--index-url", self.index.url, "script.py", *self.words]
        return subprocess.Popen(
            command,
            cwd=self.folder,
            env={**os.environ, **self.environ},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )


@pytest.fixture
def place(tmp_path: Path, index: Index) -> Place:
    for version in ("1", "2"):
        publish(
            index, make("zs-first", version, files={"zs_first.py": f"V = {version!r}\n".encode()})
        )
    folder = tmp_path / "work" / "below"
    folder.mkdir(parents=True)
    (tmp_path / "beside").mkdir()
    (folder / "script.py").write_text(SCRIPT)
    (folder / "needs.txt").write_text("-r more.txt\n")
    (folder / "more.txt").write_text("zs-first==1\n")
    environ = {
        "ZEROSTART_CACHE": str(tmp_path / "cache"),
        "PYTHONPATH": f"{ROOT}{os.pathsep}{tmp_path / 'beside'}",
        "HOME": str(tmp_path),
    }
    return Place(folder, index, environ)


def test_a_second_run_is_the_first_without_the_asking(place: Place) -> None:
    first, second = place.run(), place.run()
    assert (first.pop("again"), second.pop("again")) == (False, True)
    assert first == second
    assert first["words"] == ["script.py", "a", "-b"]
    assert place.index.requests  # it was asked
    place.index.requests.clear()
    place.run()
    assert not place.index.requests


def test_a_status_and_a_traceback_are_the_scripts_own(place: Place) -> None:
    place.run()
    place.environ["LEAVE"] = "7"
    assert place.run(status=7)["again"]
    (place.folder / "script.py").write_text("def fail():\n    1 / 0\nfail()\n")
    first, second = place.ran(), place.ran()
    assert first.returncode == second.returncode == 1
    assert first.stderr == second.stderr
    assert "ZeroDivisionError" in first.stderr
    assert "zerostart_jupyter" not in first.stderr


def script(place: Place) -> None:
    with open(place.folder / "script.py", "a") as file:
        file.write("# changed\n")


def requirements(place: Place) -> None:
    (place.folder / "needs.txt").write_text("zs-first==2\n")


def included(place: Place) -> None:
    path = place.folder / "more.txt"
    status = path.stat()
    path.write_text("zs-first==2\n")  # of the same size
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))


def linked(place: Place) -> None:
    other = place.folder / "other"
    other.mkdir()
    (other / "needs.txt").write_text("-r more.txt\n")
    (other / "more.txt").write_text("zs-first==2\n")
    (place.folder / "needs.txt").unlink()
    (place.folder / "needs.txt").symlink_to(other / "needs.txt")


def words(place: Place) -> None:
    place.words.append("c")


def option(place: Place) -> None:
    place.options += ["-p", "zs-first==1"]


def settings_file(place: Place) -> None:
    place.environ.pop("PIP_CONFIG_FILE", None)
    path = Path(place.environ["HOME"], ".config", "pip", "pip.conf")
    path.parent.mkdir(parents=True)
    path.write_text("[global]\npre = true\n")


def settings_folder(place: Place) -> None:
    place.environ["XDG_CONFIG_HOME"] = str(place.folder)


def variable(place: Place) -> None:
    place.environ["UV_PRERELEASE"] = "allow"


def directory(place: Place) -> None:
    other = place.folder.with_name("moved")
    shutil.copytree(place.folder, other)
    place.folder = other


def installed(place: Place) -> None:
    (Path(place.environ["HOME"], "beside") / "new.pth").touch()


@pytest.mark.parametrize(
    ("change", "version"),
    [
        (script, "1"),
        (requirements, "2"),
        (included, "2"),
        (linked, "2"),
        (words, "1"),
        (option, "1"),
        (settings_file, "1"),
        (settings_folder, "1"),
        (variable, "1"),
        (directory, "1"),
        (installed, "1"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_was_changed_is_noticed(
    change: Callable[[Place], None],
    version: str,
    place: Place,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("PIP_CONFIG_FILE")
    place.run()
    assert place.run()["again"]
    change(place)
    first, second = place.run(), place.run()
    assert (first["again"], first["version"], first["child"]) == (False, version, version)
    assert (second["again"], second["version"], second["child"]) == (True, version, version)


def test_another_login_changes_nothing(place: Place) -> None:
    place.run()
    place.environ.update(XDG_SESSION_ID="c7", SHLVL="3", OLDPWD="/")
    assert place.run()["again"]


def test_what_lies_around_is_noticed_wherever_it_turns_up(place: Place) -> None:
    place.options = []
    (place.folder.parent / "requirements.txt").write_text("zs-first==1\n")
    assert place.run()["version"] == "1"
    assert place.run()["again"]
    (place.folder / "requirements.txt").write_text("zs-first==2\n")
    assert place.run()["version"] == "2"
    assert place.run()["again"]
    (place.folder / "pyproject.toml").write_text("[tool.other]\n")  # no project
    assert not place.run()["again"]
    assert place.run()["version"] == "2"


def cache(place: Place) -> Path:
    return Path(place.environ["ZEROSTART_CACHE"])


def no_environment(place: Place) -> None:
    (marker,) = cache(place).glob("environments/*/entry.json")
    marker.unlink()


def no_children(place: Place) -> None:
    (stub,) = cache(place).glob("environments/*/.zerostart/children/*/sitecustomize.py")
    stub.unlink()


def no_answer(place: Place) -> None:
    for entry in cache(place).glob("locked/*"):
        if not (entry / "replay").exists():
            shutil.rmtree(entry)


def old(place: Place) -> None:
    for note in cache(place).glob("locked/*/replay"):
        parts = note.read_bytes().split(b"\0")
        parts[2] = str(time.time() - 1).encode()
        note.write_bytes(b"\0".join(parts))


def from_the_future(place: Place) -> None:
    for note in cache(place).glob("locked/*/replay"):
        parts = note.read_bytes().split(b"\0")
        parts[1] = str(time.time() + 1000).encode()
        note.write_bytes(b"\0".join(parts))


def garbled(place: Place) -> None:
    for note in cache(place).glob("locked/*/replay"):
        note.write_bytes(note.read_bytes().replace(b"1\0", b"1\0x", 1))


def cut_short(place: Place) -> None:
    for note in cache(place).glob("locked/*/replay"):
        note.write_bytes(note.read_bytes()[:40])


def empty(place: Place) -> None:
    for note in cache(place).glob("locked/*/replay"):
        note.write_bytes(b"")


@pytest.mark.parametrize(
    "harm",
    [no_environment, no_children, no_answer, old, from_the_future, garbled, cut_short, empty],
    ids=lambda harm: harm.__name__,
)
def test_a_note_that_no_longer_holds_is_no_note(
    harm: Callable[[Place], None], place: Place
) -> None:
    place.run()
    assert place.run()["again"]
    harm(place)
    first, second = place.run(), place.run()
    assert (first["again"], first["version"]) == (False, "1")
    assert (second["again"], second["version"]) == (True, "1")


def test_an_environment_that_is_being_removed_is_not_used(place: Place) -> None:
    place.run()
    (lock,) = cache(place).glob("locks/.environments-*")
    with open(lock, "r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        process = place.start()
        with pytest.raises(subprocess.TimeoutExpired):
            process.wait(2)
    out, _ = process.communicate(timeout=PATIENCE)
    assert not json.loads(out)["again"]


def test_a_running_script_holds_its_environment(place: Place) -> None:
    place.run()
    (place.folder / "script.py").write_text(
        "import sys, time; print(1, flush=True); sys.stdin.read()"
    )
    place.ran()
    process = place.start()
    assert process.stdout is not None
    process.stdout.readline()
    (lock,) = cache(place).glob("locks/.environments-*")
    with open(lock, "r+b") as file, pytest.raises(BlockingIOError):
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    process.communicate(timeout=PATIENCE)


def test_a_cache_that_cannot_be_used_is_said_as_ever(place: Place) -> None:
    place.run()
    locks = cache(place) / "locks"
    locks.rename(cache(place) / "moved")
    locks.touch()
    ran = place.ran()
    assert ran.returncode == 1
    assert ran.stderr.startswith("zerostart run: The cache")
    assert "Traceback" not in ran.stderr


@pytest.mark.parametrize("file", ["script.py", "more.txt", "requirements.txt"])
def test_what_is_changed_while_it_is_asked_is_not_noted(file: str, place: Place) -> None:
    """The answer is for what it was, and a note would be for what it has become."""
    code = f"""
import sys
from zerostart_jupyter.cli.main import main
import zerostart_jupyter.install.again as again
note = again.note
def change_first(*words):
    with open({file!r}, "a") as opened:
        opened.write("# changed")
    note(*words)
again.note = change_first
sys.exit(main())
"""
    place.start("-c", code).communicate(timeout=PATIENCE)
    command = "import sys; from zerostart_jupyter.cli.main import main; sys.exit(main())"
    for again in (False, True):
        out, errors = place.start("-c", command).communicate(timeout=PATIENCE)
        assert json.loads(out)["again"] is again, errors


def test_a_note_that_cannot_be_written_keeps_no_script_from_running(place: Place) -> None:
    code = """
import errno, sys
from pathlib import Path
from zerostart_jupyter.cli.main import main
write = Path.write_bytes
def full(path, data):
    if path.name == "replay":
        raise OSError(errno.ENOSPC, "No space left on device")
    return write(path, data)
Path.write_bytes = full
sys.exit(main())
"""
    process = place.start("-c", code)
    out, errors = process.communicate(timeout=PATIENCE)
    assert (process.returncode, errors) == (0, "")
    assert json.loads(out)["version"] == "1"
    assert not list(cache(place).glob("locked/*/replay"))


@pytest.mark.parametrize("given", [None, "", "/somewhere", "~/here", "there"])
def test_what_it_does_not_import_it_says_alike(
    given: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("ZEROSTART_CACHE", raising=False)
    if given is not None:
        monkeypatch.setenv("ZEROSTART_CACHE", given)
    assert replay._cache() == str(Settings.read().cache)
    assert (replay.ROOM, replay._MARKER) == (answers.ROOM, MARKER)


def test_no_secret_is_in_a_note(place: Place) -> None:
    place.environ["UV_INDEX"] = place.index.url.replace("://", "://me:hunter2@")
    place.run()
    assert place.run()["again"]
    for path in cache(place).glob("locked/**/*"):
        assert not path.is_file() or b"hunter2" not in path.read_bytes()


def test_what_can_change_unseen_is_not_noted(place: Place) -> None:
    place.environ["ZS_SYSTEM_CUDA"] = "1"
    place.run()
    assert not place.run()["again"]


def test_it_imports_next_to_nothing(place: Place) -> None:
    """Each of these takes as long as all of it."""
    (place.folder / "script.py").write_text("import sys; print(*sys.modules)")
    command = "import sys; from zerostart_jupyter.cli.main import main; sys.exit(main())"
    for _ in range(2):
        out, _ = place.start("-c", command).communicate(timeout=PATIENCE)
    heavy = {"typing", "re", "json", "pathlib", "dataclasses", "hashlib", "argparse", "contextlib"}
    bare = subprocess.check_output(
        [sys.executable, "-c", "import sys; print(*sys.modules)"], text=True
    )
    assert not heavy & set(out.split()) - set(bare.split())
