"""One store for several environments and processes: edits are noticed, the killed are replaced."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.linker import Linker
from zerostart_jupyter.install.unpack import stored

ROOT = Path(__file__).parents[2]
CODE = """
import json, sys
from pathlib import Path
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import IndexOptions, gather, install
request = gather(["zs-pair"], index=IndexOptions(index_url=sys.argv[1]))
settings = Settings.read(cache=Path(sys.argv[2]), chunk_mb=1, parallel_downloads=4)
print(json.dumps(install(request=request, settings=settings, activate=False).as_json()))
"""
CONTENT = b"NAME = 'zs-edit'\n"


def touched(path: Path) -> None:
    """Another content of the same size."""
    with open(path, "r+b") as file:
        file.write(b"EVIL")
    os.utime(path, ns=(0, 0))


def longer(path: Path) -> None:
    with open(path, "ab") as file:
        file.write(b"evil()\n")


def shorter(path: Path) -> None:
    os.truncate(path, 0)


def test_a_wheel_that_was_published_before_manifests_had_requirements_keeps_its_own(
    bring: Bring, index: Index, store: Store
) -> None:
    wheel = make("zs-old", requires=["zs-needed"])
    publish(index, wheel, make("zs-needed"))
    bring("zs-old", activate=False)
    found = stored(store, wheel.sha256)
    assert found is not None
    assert found.requires == ("zs-needed",)
    manifest = found.path / "manifest.json"
    body = json.loads(manifest.read_text())
    del body["requires"]
    manifest.write_text(json.dumps(body))
    assert stored(store, wheel.sha256) == found


@pytest.mark.parametrize("edit", [touched, longer, shorter])
def test_an_edit_through_a_link_is_not_linked_again(
    edit: Callable[[Path], None], bring: Bring, index: Index
) -> None:
    publish(index, make("zs-edit", files={"zs_edit.py": CONTENT}), make("zs-more"))
    first = bring("zs-edit")
    edit(first.site_packages / "zs_edit.py")
    second = bring("zs-edit", "zs-more")
    assert (second.site_packages / "zs_edit.py").read_bytes() == CONTENT


def test_many_wheels_of_the_store_are_linked_by_two(
    bring: Bring, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The second is a process, which is gone afterwards; what was edited is noticed there too."""
    names = [f"zs-many-{number}" for number in range(14)]
    for name in names:
        publish(index, make(name, files={f"{name}.py": CONTENT, "shared.txt": name.encode()}))
    first = bring(*names)
    for name in names[::2]:
        touched(first.site_packages / f"{name}.py")
    started: list[subprocess.Popen[bytes]] = []
    start = Linker.start

    def noted(self: Linker) -> None:
        start(self)
        assert self._process is not None
        started.append(self._process)

    monkeypatch.setattr(Linker, "start", noted)
    publish(index, make("zs-one-more"))
    second = bring(*names, "zs-one-more")
    (process,) = started
    assert process.returncode is not None
    for name in names:
        assert (second.site_packages / f"{name}.py").read_bytes() == CONTENT
    assert (second.site_packages / "shared.txt").read_text() == max(names)


@pytest.mark.parametrize("how", ["removed", "exchanged", "a link"])
def test_a_store_file_that_is_another_is_not_linked(
    how: str, bring: Bring, index: Index, store: Store
) -> None:
    publish(index, make("zs-edit", files={"zs_edit.py": CONTENT}), make("zs-more"))
    bring("zs-edit")
    (file,) = store.root.glob("wheels/*/tree/site/zs_edit.py")
    file.unlink()
    if how == "exchanged":
        file.write_bytes(b"EVIL" + CONTENT[4:])
    if how == "a link":
        file.symlink_to(os.devnull)
    second = bring("zs-edit", "zs-more")
    assert (second.site_packages / "zs_edit.py").read_bytes() == CONTENT


def start(index: Index, cache: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", CODE, index.url, str(cache)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def test_one_of_two_is_killed_and_the_other_finishes(index: Index, tmp_path: Path) -> None:
    wheel = make("zs-pair", files={"zs_pair.py": b"", "zs_pair.bin": noise(3 << 20)})
    publish(index, wheel)
    held = index.of(wheel).hold = threading.Event()
    cache = tmp_path / "cache"
    first = start(index, cache)
    deadline = time.monotonic() + PATIENCE
    while not list(cache.glob("wheels/.staging-*")):  # the first one is in the middle of it
        assert time.monotonic() < deadline
        time.sleep(0.01)
    second = start(index, cache)
    first.send_signal(signal.SIGKILL)
    first.communicate(timeout=PATIENCE)
    index.of(wheel).hold = None
    held.set()
    said, _ = second.communicate(timeout=PATIENCE)
    assert second.returncode == 0
    environment = Path(json.loads(said)["environment"])
    assert next(environment.rglob("zs_pair.bin")).stat().st_size == 3 << 20
    store = Store(cache)
    store.sweep()
    assert not list(cache.glob("*/.staging-*"))
    assert [entry.path for entry in store.entries("environments")] == [environment]
