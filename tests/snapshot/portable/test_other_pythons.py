"""A snapshot read by another release of Python: data by any, code by the same minor version."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snapshot.portable.shells import restored, run, save
from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot.portable.description import Description

READ = """
import sys
sys.path[:0] = sys.argv[2:]
from pathlib import Path
from tests.snapshot.portable.shells import restored
names = restored(Path(sys.argv[1])).user_ns
names["x"] = 10
assert names["add"](1) == 11 and names["point"].get() == 11, names
assert names["more"]() == 2
print(*sys.version_info[:3])
"""
CODE = """
x = 5
def add(n): return x + n
class Point:
    def get(self): return add(1)
point = Point()
def counter():
    n = 0
    def more():
        nonlocal n
        n += 1
        return n
    return more
more = counter(); more()
"""


def others() -> list[str]:
    """Interpreters of this minor version that are another release, or at least another build."""
    name = f"python{sys.version_info.major}.{sys.version_info.minor}"
    found = {os.path.realpath(sys.executable)}
    for folder in ("/usr/bin", "/usr/local/bin", *os.environ.get("PATH", "").split(os.pathsep)):
        path = shutil.which(name, path=folder)
        if path and os.path.realpath(path) not in found:
            found.add(os.path.realpath(path))
    return sorted(found - {os.path.realpath(sys.executable)}) or [sys.executable]


@pytest.mark.parametrize("python", others())
def test_another_release_reads_code_and_data(tmp_path: Path, python: str) -> None:
    save(run(CODE), tmp_path / "one")
    import cloudpickle

    root = Path(__file__).parents[3]
    library = Path(cloudpickle.__file__).parents[1]
    alone = tmp_path / "library"
    alone.mkdir()
    (alone / "cloudpickle").symlink_to(library / "cloudpickle")
    done = subprocess.run(
        [python, "-I", "-c", READ, str(tmp_path / "one"), str(root), str(alone)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    major, minor = done.stdout.split()[:2]
    assert (int(major), int(minor)) == sys.version_info[:2]


def test_another_minor_version_is_refused_for_code_and_not_for_data(tmp_path: Path) -> None:
    for name, code in (("code", "def f(): return 1"), ("data", "x = [1, 2]")):
        save(run(code), tmp_path / name)
        described = Description.read(tmp_path / name)
        (tmp_path / name / "portable.json").unlink()
        dataclasses.replace(described, python="3.99.1").write(tmp_path / name)
    with pytest.raises(SnapshotRefused, match=r"code of cpython 3\.99") as caught:
        restored(tmp_path / "code")
    assert "Python 3.99" in caught.value.remedy
    assert restored(tmp_path / "data").user_ns["x"] == [1, 2]
