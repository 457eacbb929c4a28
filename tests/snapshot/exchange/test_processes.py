"""A process exported and back, its mapped memory in a new place."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotCorrupt, SnapshotRefused

pytestmark = pytest.mark.criu


def test_a_process_comes_back_from_another_cache(
    python: Kernel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    python.run("import numpy; a = numpy.full(1 << 20, 7.); x = 41")
    python.run("z.snapshot('one', tier='process')")
    saved = snapshot.show("one")
    assert saved.manifest().memory
    done = snapshot.export("one", tmp_path / "one.zsnap")
    again = tmp_path / "other cache"
    again.mkdir(mode=0o700)
    shutil.copytree(tmp_path / "cache" / "tools", again / "tools", symlinks=True)
    snapshot.delete("one")
    monkeypatch.setenv("ZEROSTART_CACHE", str(again))
    found = snapshot.import_(done.path)
    assert all(path.startswith(str(again)) for path in found.manifest().memory)
    assert not (found.path / "memory").exists()
    snapshot.verify("one")
    with pytest.raises(SnapshotRefused, match="imported"):
        snapshot.clone("one")
    snapshot.delete("one")
    assert list((again / "memory").glob("[!.]*")) == []
    snapshot.import_(done.path, trust=True)
    with kernel(snapshot.publish("one").name) as restored:
        assert restored.run("(x, float(a.sum()), a[5])") == "(41, 7340032.0, np.float64(7.0))"


def test_memory_that_is_another_is_refused(python: Kernel, tmp_path: Path) -> None:
    python.run("import numpy; a = numpy.full(1 << 20, 7.)")
    python.run("z.snapshot('one', tier='process')")
    text, *_ = snapshot.show("one").manifest().memory
    Path(text).chmod(0o600)
    with Path(text).open("r+b") as stream:
        stream.seek(4096)
        stream.write(b"other")
    done = snapshot.export("one", tmp_path / "one.zsnap")
    with pytest.raises(SnapshotCorrupt, match="memory of a process"):
        snapshot.import_(done.path, "two")
    assert [each.name for each in snapshot.snapshots()] == ["one"]
