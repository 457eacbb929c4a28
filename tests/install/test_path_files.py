"""What `.pth` files do at the start of Python, an environment's do when it is used."""

from __future__ import annotations

import importlib
import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.patience import eventually
from tests.servers.index import Behaviour, Index
from zerostart_jupyter.install.activation import landed
from zerostart_jupyter.install.imports import import_names
from zerostart_jupyter.install.path_files import take

PATIENCE = 90.0
RUN = "import os; os.environ['ZS_RUN'] = os.environ.get('ZS_RUN', '') + 'x'\n"
# As setuptools wrote it into wheels of namespace packages.
NAMESPACE = (
    "import sys, os;p = os.path.join(sys._getframe(1).f_locals['sitedir'], *('zs',));"
    "os.environ['ZS_PLACE'] = p\n"
)


@pytest.fixture(autouse=True)
def unset(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ZS_RUN", "ZS_PLACE"):
        monkeypatch.setenv(name, "")


def test_directories_that_are_there_are_added_once(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_bytes(b"\xef\xbb\xbf# those of a\n\ninner\r\nnot-yet\n")
    (tmp_path / ".hidden.pth").write_text("hidden\n")
    (tmp_path / "bad.pth").write_bytes(b"\xff\xfe\n")
    (tmp_path / "hidden").mkdir()
    (tmp_path / "inner").mkdir()
    before = list(sys.path)
    take(str(tmp_path), False)
    take(str(tmp_path), False)
    assert sys.path == [*before, str(tmp_path / "inner")]
    (tmp_path / "not-yet").mkdir()
    take(str(tmp_path), False)
    assert sys.path[-1] == str(tmp_path / "not-yet")
    take(str(tmp_path / "nowhere"), True)


def test_import_lines_run_once_and_when_all_is_there(tmp_path: Path) -> None:
    (tmp_path / "a.pth").write_text(f"{RUN}import\tsys\n{NAMESPACE}")
    take(str(tmp_path), False)
    assert os.environ["ZS_RUN"] == ""
    take(str(tmp_path), True)
    take(str(tmp_path), True)
    assert os.environ["ZS_RUN"] == "x"
    assert os.environ["ZS_PLACE"] == str(tmp_path / "zs")


def test_a_line_that_fails_ends_its_file_and_is_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "a.pth").write_text(f"import zs_is_nowhere\n{RUN}")
    (tmp_path / "b.pth").write_text(RUN)
    take(str(tmp_path), True)
    assert os.environ["ZS_RUN"] == "x"
    told = capsys.readouterr().err
    assert "No module named 'zs_is_nowhere'" in told
    assert f"{tmp_path / 'a.pth'}: the rest of it is left out" in told


def test_what_no_package_encloses_is_claimed_by_the_end_of_its_name() -> None:
    files = ["inner/deep/mod/__init__.py", "inner/deep/mod/part.py", "pkg/__init__.py", "pkg/a.py"]
    plain = {"inner.deep.mod": frozenset({"part"}), "pkg": frozenset({"a"})}
    assert import_names(files).roots == plain
    mod = frozenset({"part"})
    assert import_names([*files, "zs.pth"]).roots == {**plain, "deep.mod": mod, "mod": mod}
    assert import_names([*files, "pkg/zs.pth"]).roots == plain


@pytest.fixture
def held(index: Index) -> threading.Event:
    """A wheel that puts a directory of its own on the path, and one that it is behind."""
    late = make(
        "zs-late",
        files={
            "zs_late.pth": b"zs_late/inner\n" + RUN.encode(),
            "zs_late/inner/zs_inner/__init__.py": b"X = 7\n",
            "zs_late/blob": noise(3 << 20),
        },
    )
    publish(index, late, make("zs-early"))
    hold = threading.Event()
    index.behaviour[late.filename] = Behaviour(hold=hold)
    return hold


def child() -> subprocess.Popen[str]:
    code = "import zs_inner, os; print(zs_inner.X, os.environ['ZS_RUN'])"
    return subprocess.Popen(
        [sys.executable, "-c", code],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "ZS_RUN": ""},
    )


def test_an_import_waits_for_what_a_path_file_leads_to(bring: Bring, held: threading.Event) -> None:
    found = bring("zs-late", "zs-early", wait=False)
    waiting = child()
    importing: list[int] = []
    thread = threading.Thread(
        target=lambda: importing.append(importlib.import_module("zs_inner").X)
    )
    thread.start()
    with pytest.raises(subprocess.TimeoutExpired):
        waiting.wait(0.5)
    assert importing == []
    eventually(landed(found.environment, "zs-early").exists)  # lines are run when all is there
    held.set()
    thread.join(PATIENCE)
    assert importing == [7]
    assert waiting.communicate(timeout=PATIENCE) == ("7 x\n", "")
    found.wait()
    assert os.environ["ZS_RUN"] == "x"

    warm = bring("zs-late", "zs-early")
    assert warm.warm
    assert os.environ["ZS_RUN"] == "x"
    out, errors = child().communicate(timeout=PATIENCE)
    assert out == "7 x\n", errors
