"""Disks that are full, read-only, foreign, or two; real ones, in a mount namespace of their own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.servers.index import Index
from zerostart_jupyter.core.errors import StoreError
from zerostart_jupyter.core.settings import Settings

ROOT = Path(__file__).parents[2]
UNSHARE = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
MOUNTS = (
    subprocess.run(
        [*UNSHARE, "mount", "-t", "tmpfs", "tmpfs", "/mnt"], capture_output=True, check=False
    ).returncode
    == 0
)
with_mounts = pytest.mark.skipif(not MOUNTS, reason="no file system can be mounted here")


def rounds(kind: str, index: Index, folder: Path) -> Any:
    many = {f"zs_disk/{n}.txt": noise(3000, n) for n in range(60)}
    publish(index, make("zs-disk", files={"zs_disk/__init__.py": b"", **many}), make("zs-other"))
    command = [*UNSHARE, sys.executable, "-m", "tests.install.small_disk", kind, index.url]
    said = subprocess.run(
        [*command, str(folder)],
        capture_output=True,
        text=True,
        timeout=200,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert said.returncode == 0, said.stderr
    return json.loads(said.stdout)


@with_mounts
def test_a_disk_that_becomes_full(index: Index, tmp_path: Path) -> None:
    """At every stage one line and nothing half; with room again it is finished."""
    found = rounds("full", index, tmp_path)
    failed = [each for each in found if "failed" in each["first"]]
    assert 5 < len(failed) < len(found)  # some have enough room, or no stage was the last
    whole = found[-1]["second"]["ok"]
    assert len(whole) > 60
    for each in found:
        assert each["second"].get("ok") == whole, each
        assert each["left"] == []
    for each in failed:
        first = each["first"]
        assert first["failed"] == "StoreError", each
        assert "No space left on device" in first["line"]
        assert "\n" not in first["line"]
        assert "zerostart cache prune" in first["remedy"]
        assert each["published"] == [], each


@with_mounts
def test_a_disk_that_can_only_be_read(index: Index, tmp_path: Path) -> None:
    first, again, other = rounds("read_only", index, tmp_path)
    assert again.get("ok", again) == first["ok"]
    assert again["warm"]
    assert (other["failed"], "\n" in other["line"]) == ("StoreError", False)
    assert "Read-only file system" in other["line"]
    assert "ZEROSTART_CACHE" in other["remedy"]


@with_mounts
def test_two_disks(index: Index, tmp_path: Path) -> None:
    found, links = rounds("two_disks", index, tmp_path)
    assert len(found["ok"]) > 60
    assert links == [1]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a directory away")
def test_a_cache_of_another_user(bring: Bring, index: Index, settings: Settings) -> None:
    publish(index, make("zs-foreign"))
    settings.cache.mkdir()
    os.chown(settings.cache, 12345, 12345)
    with pytest.raises(StoreError, match="belongs to another user") as caught:
        bring("zs-foreign")
    assert "ZEROSTART_CACHE" in caught.value.remedy
    assert list(settings.cache.glob("*/*")) == []
