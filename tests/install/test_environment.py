from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.servers.index import Index
from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import environment

ROOT = Path(__file__).parents[2]


def test_where_links_are_refused_files_are_copied(
    bring: Bring, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-device"))

    def refuse(*_: object) -> None:
        raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))

    monkeypatch.setattr(environment.os, "link", refuse)
    found = bring("zs-device")
    assert (found.site_packages / "zs_device.py").stat().st_nlink == 1


def test_a_shared_file_is_the_same_whatever_comes_first(bring: Bring, index: Index) -> None:
    """Of two wheels with one file the later in the lock has it; nothing of the store changes."""
    first = make("zs-share-a", files={"shared.txt": b"a"})
    second = make("zs-share-b", files={"shared.txt": b"b", "zs_b": noise(3 << 20)})
    publish(index, first, second)
    for slow in (first, second):
        index.behaviour.clear()
        index.of(slow).pace = 8 << 20
        index.of(second).hold = None
        found = bring("zs-share-a", "zs-share-b")
        assert (found.site_packages / "shared.txt").read_bytes() == b"b"
    alone = bring("zs-share-a")
    assert (alone.site_packages / "shared.txt").read_bytes() == b"a"


def test_a_full_disk_is_said_in_one_line(
    bring: Bring, index: Index, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-full"))

    def full(*_: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("zerostart_jupyter.install.inflate.write_all", full)
    with pytest.raises(StoreError, match="No space left") as caught:
        bring("zs-full")
    assert "cache prune" in caught.value.remedy
    assert store.entries("wheels") == store.entries("environments") == []


def test_waiting_may_end_before_the_install(bring: Bring, index: Index) -> None:
    wheel = make("zs-wait", files={"zs_wait.py": b"", "zs_wait.bin": noise(3 << 20)})
    publish(index, wheel)
    index.of(wheel).hold = threading.Event()
    found = bring("zs-wait", wait=False)
    assert "on its way" in repr(found)
    with pytest.raises(TimeoutError, match=r"after 0\.01 s"):
        found.wait(0.01)
    found.demand("zs-wait")
    hold = index.of(wheel).hold
    assert hold is not None
    hold.set()
    assert "1 wheel," in repr(found.wait(60))
    found.cancel()  # of no consequence any more
    assert found.error is None


def test_modules_that_only_we_imported_give_way(index: Index, settings: Settings) -> None:
    """The engine itself needs `packaging`; a user may still want another one."""
    publish(index, make("packaging", "1.0", {"packaging/__init__.py": b"MINE = True\n"}))
    code = (
        "import sys; from pathlib import Path\n"
        "from zerostart_jupyter.core.settings import Settings\n"
        "from zerostart_jupyter.install import *\n"
        "assert 'packaging' not in sys.modules\n"
        "r = gather(['packaging'], index=IndexOptions(index_url=sys.argv[1]))\n"
        "i = install(request=r, settings=Settings.read(cache=Path(sys.argv[2])), wait=False)\n"
        "import packaging; assert packaging.MINE; i.wait(60)\n"
    )
    command = [sys.executable, "-c", code, index.url, str(settings.cache)]
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run(command, check=True, env=environ, timeout=90)


def test_importing_the_engine_brings_nothing_with_it() -> None:
    code = (
        "import sys, zerostart_jupyter.install as engine\n"
        "heavy = {'http.client', 'ssl', 'packaging', 'installer', 'isal', 'email', 'uv'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
        "engine.gather(['six']); from zerostart_jupyter.install import installation\n"
        "heavy -= {'email'}  # importlib.metadata's\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    environ = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([sys.executable, "-c", code], check=True, env=environ, timeout=60)
