"""Directories of their own for each test, with a CRIU in the cache."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.faulty import Broken
from tests.snapshot.kernels import Kernel, kernel, ours
from tests.snapshot.ordinary import User, made
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import criu

ROOT = Path(__file__).parents[2]
_USERS = Settings.read()  # before any test changes the environment


def separate(home: Path, patch: pytest.MonkeyPatch) -> None:
    """Have kernels write below `home` only."""
    for name in ("IPYTHONDIR", "JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR"):
        (home / name.lower()).mkdir()
        patch.setenv(name, str(home / name.lower()))
    patch.setenv("ZEROSTART_CACHE", str(home / "cache"))
    patch.setenv("JUPYTER_PLATFORM_DIRS", "1")
    patch.setenv("ZEROSTART_TEST", str(home))  # how leaked processes are found
    path = [str(ROOT), *filter(None, [os.environ.get("PYTHONPATH")])]
    patch.setenv("PYTHONPATH", os.pathsep.join(path))


def share_criu(home: Path) -> None:
    """Put the CRIU that `zerostart setup criu` or the system provides there."""
    found = criu.find(_USERS)
    store = Store(home / "cache")
    for entry in Store(_USERS.cache).entries("tools"):
        if found.command[-1].startswith(str(entry.path)):
            (store.root / "tools" / entry.key).symlink_to(entry.path)


@pytest.fixture
def private(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Every directory a kernel writes to, below tmp_path; no CRIU yet."""
    separate(tmp_path, monkeypatch)
    return tmp_path


@pytest.fixture
def with_criu(private: Path) -> Iterator[Path]:
    """The same with a CRIU. Nothing may be left running at the end."""
    share_criu(private)
    yield private
    eventually(lambda: not ours(private))


@pytest.fixture
def python(with_criu: Path) -> Iterator[Kernel]:
    """A fresh kernel with the engine imported as `z`."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z")
        yield made


@pytest.fixture(scope="session")
def somebody() -> Iterator[User]:
    """An ordinary user of this machine, who has a CRIU."""
    found = criu.find(_USERS)
    with made() as user:
        for entry in Store(_USERS.cache).entries("tools"):
            if found.command[-1].startswith(str(entry.path)):
                user.give(entry.path, user.home / "cache" / "tools" / entry.key)
        yield user


@pytest.fixture
def user(somebody: User) -> Iterator[User]:
    """The same without kernels or snapshots; no process may be left running at the end."""
    yield somebody
    eventually(lambda: not ours(somebody.home))
    somebody.forget()


@pytest.fixture
def broken(with_criu: Path, monkeypatch: pytest.MonkeyPatch) -> Broken:
    made = Broken(with_criu)
    monkeypatch.setenv("ZS_CRIU", str(made.path))
    made.does("exit 1")
    return made


@pytest.fixture
def undoable(private: Path) -> Iterator[Kernel]:
    """A kernel that keeps undo points; nothing of it may be left at the end."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z")
        made.run("z.auto(True)")
        yield made
    eventually(lambda: not ours(private))
