from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.snapshot.test_criu import program
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import kerndat

KNOWN = b"what this system can do"
# As CRIU does: read what is known, or find it out and keep it where it is a tmpfs.
KEEPS = 'printf "%s" "what this system can do" >/run/criu.kdat\n'
READS = f"{sys.executable} - <<'E'\nprint(open('/run/criu.kdat').read())\nE\nls /run\n"


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """Where CRIU keeps nothing itself, whatever this machine has at /run."""
    if os.geteuid():
        monkeypatch.setattr(os, "geteuid", lambda: 0)
    monkeypatch.setattr(kerndat, "_kept_by_criu", lambda: False)
    return Store(tmp_path / "cache")


@pytest.fixture
def criu(tmp_path: Path) -> list[str]:
    return [str(program(tmp_path / "criu", KEEPS))]


needs_root = pytest.mark.criu


@needs_root
def test_what_criu_found_out_is_kept_and_its_run_is_as_before(
    store: Store, criu: list[str]
) -> None:
    before = sorted(os.listdir("/run")), sorted(os.listdir("/dev/shm"))
    assert kerndat.known(store, criu) is None
    assert kerndat.learn(store, criu)
    assert kerndat.known(store, criu) == KNOWN
    assert not kerndat.learn(store, criu), "once is enough"
    assert (sorted(os.listdir("/run")), sorted(os.listdir("/dev/shm"))) == before


@needs_root
@pytest.mark.parametrize("what", ["boot", "criu"])
def test_after_a_boot_or_with_another_criu_nothing_is_known(
    store: Store, criu: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, what: str
) -> None:
    assert kerndat.learn(store, criu)
    if what == "boot":
        (tmp_path / "boot").write_text("another\n")
        monkeypatch.setattr(kerndat, "_BOOT", tmp_path / "boot")
    else:
        program(Path(criu[0]), KEEPS + "# newer\n")
    assert kerndat.known(store, criu) is None
    assert kerndat.learn(store, criu)
    assert kerndat.known(store, criu) == KNOWN


@needs_root
@pytest.mark.parametrize("body", ["exit 1", "true", "kill -9 $$", "cat /dev/zero >/run/criu.kdat"])
def test_a_criu_that_finds_nothing_out_leaves_nothing(
    store: Store, tmp_path: Path, body: str
) -> None:
    before = sorted(os.listdir("/dev/shm"))
    wrong = [str(program(tmp_path / "wrong", f"ulimit -f 64; {body}"))]
    assert not kerndat.learn(store, wrong)
    assert kerndat.known(store, wrong) is None
    assert sorted(os.listdir("/dev/shm")) == before


def in_a_namespace(store: Store, criu: list[str], body: str, tmp_path: Path) -> str:
    """What a CRIU that does this prints where a restore offers it what is known."""
    other = program(tmp_path / "reads", body)
    script = (
        "import subprocess, sys\n"
        "from pathlib import Path\n"
        "from zerostart_jupyter.core.store import Store\n"
        "from zerostart_jupyter.snapshot import kerndat\n"
        "kerndat._kept_by_criu = lambda: False\n"
        "cache, criu, other = sys.argv[1:]\n"
        "with kerndat.offered(Store(Path(cache)), [criu], [Path(other)]):\n"
        "    subprocess.run([other], check=False)\n"
        "subprocess.run(['ls', '/run'], check=True)\n"
    )
    argv = [sys.executable, "-c", script, str(store.root), *criu, str(other)]
    ran = subprocess.run(
        ["unshare", "--mount", *argv], capture_output=True, text=True, timeout=60, check=True
    )
    return ran.stdout


@needs_root
def test_a_restore_reads_it_and_sees_run_as_it_is(
    store: Store, criu: list[str], tmp_path: Path
) -> None:
    run = "".join(f"{name}\n" for name in sorted(os.listdir("/run")))
    assert kerndat.learn(store, criu)
    found = in_a_namespace(store, criu, READS, tmp_path)
    assert found.split() == [*KNOWN.decode().split(), *run.split(), *run.split()]


@needs_root
def test_a_criu_that_never_asks_leaves_run_as_it_is(
    store: Store, criu: list[str], tmp_path: Path
) -> None:
    assert kerndat.learn(store, criu)
    found = in_a_namespace(store, criu, "exit 1", tmp_path)
    assert found.split() == sorted(os.listdir("/run"))


@needs_root
def test_who_works_below_run_is_offered_nothing(
    store: Store, criu: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    assert kerndat.learn(store, criu)
    monkeypatch.setattr(kerndat, "_RUN", tmp_path)
    with kerndat.offered(store, criu, [tmp_path / "images"]):
        assert not (tmp_path / "criu.kdat").exists()


def test_nothing_is_learnt_where_criu_keeps_it(
    store: Store, criu: list[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.undo()
    monkeypatch.setattr(kerndat, "_RUN", tmp_path / "run")
    monkeypatch.setattr(kerndat, "_MOUNTS", tmp_path / "mounts")
    (tmp_path / "run").mkdir()
    (tmp_path / "mounts").write_text(f"tmpfs {tmp_path}/run tmpfs rw 0 0\n")
    assert not kerndat.learn(store, criu)
    (tmp_path / "mounts").write_text(f"none {tmp_path}/run ext4 rw 0 0\n")
    (tmp_path / "run/criu.kdat").touch()
    assert not kerndat.learn(store, criu)
