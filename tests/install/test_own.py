"""`into_kernel`: a real virtual environment, changed by its own interpreter as pip would."""

from __future__ import annotations

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
from collections import Counter
from pathlib import Path

import pytest

from tests.install.conftest import publish
from tests.install.wheels import make, noise
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.errors import EnvironmentRefused
from zerostart_jupyter.install import own
from zerostart_jupyter.install.environment import Places
from zerostart_jupyter.install.resolve import find_uv

ROOT = Path(__file__).parents[2]
CODE = """
import importlib, json, sys
from pathlib import Path
from zerostart_jupyter.core.errors import ZerostartError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import IndexOptions, gather, install
url, cache, before, *specs = sys.argv[1:]
exec(before)
request = gather(specs, index=IndexOptions(index_url=url))
try:
    found = install(request=request, into_kernel=True, settings=Settings.read(cache=Path(cache)))
except ZerostartError as error:
    print(json.dumps({"error": type(error).__name__, "message": str(error)}))
else:
    origin = importlib.import_module(found.distributions[-1][0].replace("-", "_")).__file__
    print(json.dumps({**found.as_json(), "origin": origin}))
"""


class Kernel:
    """A virtual environment with nothing in it but a view on what this engine needs."""

    def __init__(self, root: Path, index: Index) -> None:
        self.root = root
        self.index = index
        self.cache = root.parent / "cache"
        subprocess.run(
            [sys.executable, "-m", "venv", "--without-pip", str(root)], check=True, timeout=PATIENCE
        )
        (self.site,) = root.glob("lib/python*/site-packages")
        ours = [str(ROOT), str(Path(own.__file__).parents[2])]
        ours += [path for path in sys.path if path.endswith("site-packages")]
        (self.site / "ours.pth").write_text("\n".join(ours) + "\n")

    def start(self, *specs: str, before: str = "") -> subprocess.CompletedProcess[str]:
        command = [str(self.root / "bin" / "python"), "-c", CODE, self.index.url, str(self.cache)]
        environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
        return subprocess.run(
            [*command, before, *specs],
            capture_output=True,
            text=True,
            env=environ,
            timeout=PATIENCE,
            check=False,
        )

    def install(self, *specs: str, before: str = "") -> dict[str, object]:
        said = self.start(*specs, before=before)
        assert said.returncode == 0, said.stderr
        found: dict[str, object] = json.loads(said.stdout.splitlines()[-1])
        return found

    def files(self) -> set[str]:
        below = (path.relative_to(self.site) for path in self.site.rglob("*"))
        return {str(path) for path in below if "__pycache__" not in path.parts}

    def pip(self, *words: str) -> str:
        command = [find_uv(), "pip", *words, "--python", str(self.root / "bin" / "python")]
        return subprocess.run(
            command, check=True, capture_output=True, text=True, timeout=PATIENCE
        ).stdout


@pytest.fixture
def kernel(tmp_path: Path, index: Index) -> Kernel:
    return Kernel(tmp_path / "venv", index)


def test_it_lands_as_pip_would_have_put_it(kernel: Kernel, index: Index) -> None:
    points = "[console_scripts]\nzs-own = zs_own:main\n"
    files = {
        "zs_own.py": b"def main():\n    import zs_need; print(zs_need.NAME)\n",
        "zs_own-1.0.data/data/share/zs/text": b"shared",
    }
    publish(index, make("zs-own", files=files, entry_points=points, requires=["zs-need"]))
    publish(index, make("zs-need"))
    found = kernel.install("zs-own")
    assert found["origin"] == str(kernel.site / "zs_own.py")
    assert found["environment"] == str(kernel.root)
    said = subprocess.run([kernel.root / "bin/zs-own"], capture_output=True, text=True, check=True)
    assert said.stdout == "zs-need\n"
    assert (kernel.root / "share/zs/text").read_bytes() == b"shared"
    (installed,) = importlib.metadata.distributions(name="zs-own", path=[str(kernel.site)])
    assert installed.read_text("INSTALLER") == "zerostart\n"
    assert installed.read_text("REQUESTED") == ""
    assert installed.files is not None
    assert all(Path(str(path.locate())).exists() for path in installed.files)
    assert not (kernel.site / "zs_need-1.0.dist-info" / "REQUESTED").exists()
    before = kernel.files()
    kernel.pip("uninstall", "--quiet", "zs-own", "zs-need")  # others can take it out again
    assert kernel.files() == {"ours.pth"}
    assert not (kernel.root / "bin/zs-own").exists()
    assert "zs_own.py" in before


def test_path_files_count_from_the_next_start(
    kernel: Kernel, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = tmp_path / "log"
    monkeypatch.setenv("ZS_LOG", str(log))
    line = "import os; open(os.environ['ZS_LOG'], 'a').write(f'{{os.getpid()}}-{0}\\n')\n"
    (kernel.site / "mine.pth").write_text(line.format("mine"))
    brought = make(
        "zs-own", files={"zs_own.pth": line.format("brought").encode(), "zs_own.py": b""}
    )
    publish(index, brought)
    kernel.install("zs-own")
    ran = Counter(log.read_text().split())
    assert ran
    log.unlink()
    subprocess.run([kernel.root / "bin/python", "-c", "pass"], check=True, timeout=PATIENCE)
    at_a_start = Counter(each.partition("-")[2] for each in log.read_text().split())
    assert at_a_start["brought"] == at_a_start["mine"]
    assert set(ran.values()) == {at_a_start["mine"]}
    assert not [each for each in ran if each.endswith("brought")]


def test_an_older_version_is_taken_out_first(kernel: Kernel, index: Index) -> None:
    old = make("zs-up", "1.0", {"zs_up/__init__.py": b"V = 1\n", "zs_up/gone/deep.py": b""})
    new = make("zs-up", "2.0", {"zs_up/__init__.py": b"V = 2\n", "zs_up/come.py": b""})
    publish(index, old)
    assert kernel.install("zs-up")["distributions"] == [{"name": "zs-up", "version": "1.0"}]
    publish(index, new)
    # what is there will do, as for pip; it is not asked for anew
    assert kernel.install("zs-up")["warm"]
    assert not kernel.install("zs-up>=2")["warm"]
    assert not (kernel.site / "zs_up" / "gone").exists()
    assert (kernel.site / "zs_up" / "come.py").exists()
    assert [path.name for path in kernel.site.glob("*.dist-info")] == ["zs_up-2.0.dist-info"]
    assert not list(kernel.site.glob(".zerostart*"))
    kernel.pip("uninstall", "--quiet", "zs-up")
    assert kernel.files() == {"ours.pth"}


def test_what_is_imported_is_not_exchanged(kernel: Kernel, index: Index) -> None:
    publish(index, make("zs-live", "1.0"), make("zs-live", "2.0"))
    kernel.install("zs-live==1.0")
    said = kernel.install("zs-live>=2", before="import zs_live")
    assert said["error"] == "AlreadyImported"
    assert (kernel.site / "zs_live-1.0.dist-info").exists()


def test_a_failure_on_the_way_changes_nothing(kernel: Kernel, index: Index) -> None:
    publish(index, make("zs-safe", "1.0"))
    kernel.install("zs-safe")
    before = kernel.files()
    good, bad = (
        make("zs-safe", "2.0", requires=["zs-bad"]),
        make("zs-bad", wheel="Wheel-Version: 9\n"),
    )
    publish(index, good, bad)
    assert kernel.install("zs-safe>=2")["error"] == "WheelRejected"
    assert kernel.files() == before


def test_a_crash_between_two_files_leaves_what_can_be_repaired(
    kernel: Kernel, index: Index
) -> None:
    old = make("zs-cut", "1.0", {f"zs_cut/{n}.py": b"V = 1\n" for n in "abcd"})
    new = make("zs-cut", "2.0", {f"zs_cut/{n}.py": b"V = 2\n" for n in ("__init__", *"cdef")})
    publish(index, old)
    kernel.install("zs-cut", before="import sys; sys.modules.pop('zs_cut', None)")
    publish(index, new)
    for moment, stop in enumerate(("os.unlink", "Path.rename", "os.replace")):
        (kernel.site / "zs_cut/d.py").unlink()
        (kernel.site / "zs_cut/d.py").write_text("V = 0\n")  # has to be replaced each time
        before = (
            "import os, pathlib; from pathlib import Path\n"
            "from zerostart_jupyter.install import own\n"
            "def die(*_, **__): os._exit(9)\n"
            "exchange = own.Own._exchange\n"
            f"def patched(*a):\n    {stop} = die\n    exchange(*a)\n"
            "own.Own._exchange = patched\n"
        )
        assert kernel.start("zs-cut>=2", before=before).returncode == 9, moment
        (one,) = kernel.site.glob("zs_cut-*.dist-info")
        assert "zs-cut" in kernel.pip("list")
        assert (one / "RECORD").exists()
    kernel.install("zs-cut>=2")
    assert {path.name for path in (kernel.site / "zs_cut").glob("*.py")} == {
        f"{n}.py" for n in ("__init__", *"cdef")
    }
    assert not list(kernel.site.glob(".zerostart*"))


def test_the_systems_own_python_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import sysconfig

    paths = {name: str(tmp_path / name) for name in sysconfig.get_paths()}
    monkeypatch.setattr(sysconfig, "get_paths", lambda: paths)
    monkeypatch.setattr(sys, "prefix", sys.base_prefix)
    (tmp_path / "stdlib").mkdir()
    own.places()
    (tmp_path / "stdlib" / "EXTERNALLY-MANAGED").touch()
    with pytest.raises(EnvironmentRefused, match="EXTERNALLY-MANAGED") as caught:
        own.places()
    assert "virtual environment" in caught.value.remedy


def test_an_environment_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    fixed = Path("/proc/self")  # where nobody can make a file, the superuser included
    with pytest.raises(EnvironmentRefused, match="/proc/self"):
        own.check_writable(Places(fixed, tmp_path, tmp_path, tmp_path, Path(sys.executable)))


def test_what_has_no_record_is_named(kernel: Kernel, index: Index) -> None:
    publish(index, make("zs-egg", "2.0"))
    (kernel.site / "zs_egg-1.0.egg-info").mkdir()
    said = kernel.install("zs-egg")
    assert said["error"] == "EnvironmentRefused"
    assert "pip uninstall zs-egg" in str(said["message"])


FORKED = """
import os, sys
from pathlib import Path
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.install import IndexOptions, gather, install
request = gather(["zs-own"], index=IndexOptions(index_url=sys.argv[1]))
settings = Settings.read(cache=Path(sys.argv[2]), chunk_mb=1)
found = install(request=request, into_kernel=True, wait=False, settings=settings)
child = os.fork()
if child == 0:
    try:
        import zs_own
        print(zs_own.NAME, flush=True)
    except ImportError as error:
        print(type(error).__name__, flush=True)
    os._exit(0)
print("forked", flush=True)
if sys.stdin.readline() == "cancel\\n":
    found.cancel()
os.waitpid(child, 0)
"""


@pytest.mark.parametrize(
    ("word", "said"), [("cancel", r"\w*ImportError|\w*NotFoundError"), ("go", "zs-own")]
)
def test_a_forked_child_waits_as_long_as_somebody_brings_it(
    kernel: Kernel, index: Index, word: str, said: str
) -> None:
    code = b"NAME = 'zs-own'\n"
    wheel = make("zs-own", files={"zs_own/__init__.py": code, "zs_own/data": noise(3 << 20)})
    publish(index, wheel)
    hold = index.of(wheel).hold = threading.Event()
    with subprocess.Popen(
        [kernel.root / "bin" / "python", "-c", FORKED, index.url, kernel.cache],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "forked\n"
        if word == "go":
            hold.set()
        try:
            out, _ = process.communicate(f"{word}\n", timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            process.kill()
            raise
        finally:
            hold.set()
    assert re.fullmatch(said, out.strip())
    assert list(kernel.cache.glob("*/.staging-*")) == []
