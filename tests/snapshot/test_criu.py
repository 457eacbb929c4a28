from __future__ import annotations

import os
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import Cancelled, CriuFailed, CriuMissing
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import criu
from zerostart_jupyter.snapshot.criu import Criu


def program(path: Path, body: str, version: str = "4.2.1") -> Path:
    """A script that answers to --version as CRIU does."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(
        f'#!/bin/sh\nif [ "$1" = --version ]; then echo "Version: {version}"; exit; fi\n{body}\n'
    )
    path.chmod(0o700)
    return path


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """A machine without any CRIU."""
    monkeypatch.setattr(criu, "_PLACES", (str(tmp_path / "sbin"),))
    monkeypatch.setenv("PATH", "/nonexistent")
    return Settings(cache=tmp_path / "cache", criu="")


def run(found: Criu, folder: Path, **options: object) -> None:
    criu.run(found, "dump", folder, [], log=folder / "dump.log", **{"timeout": 60, **options})


def test_none_at_all(settings: Settings) -> None:
    with pytest.raises(CriuMissing, match="zerostart setup criu"):
        criu.find(settings)


def test_one_that_is_too_old_is_named(settings: Settings, tmp_path: Path) -> None:
    program(tmp_path / "sbin/criu", "", version="4.1.1")
    with pytest.raises(CriuMissing, match=r"sbin/criu is 4\.1\.1"):
        criu.find(settings)


@pytest.mark.parametrize("version", ["4.2", "4.2.1", "5.0", "4.10"])
def test_one_of_the_systems(settings: Settings, tmp_path: Path, version: str) -> None:
    path = program(tmp_path / "sbin/criu", "", version)
    assert criu.find(settings) == Criu((str(path),), version)


def test_the_one_that_is_asked_for(settings: Settings, tmp_path: Path) -> None:
    program(tmp_path / "sbin/criu", "")
    asked = program(tmp_path / "mine", "", "4.3")
    assert criu.find(settings.with_(criu=str(asked))).version == "4.3"


def test_the_one_that_is_asked_for_must_be_one(settings: Settings, tmp_path: Path) -> None:
    program(tmp_path / "sbin/criu", "")
    for wrong in ("/bin/true", str(tmp_path / "missing")):
        with pytest.raises(CriuMissing, match="ZS_CRIU"):
            criu.find(settings.with_(criu=wrong))


def test_an_unpacked_one_comes_first_and_runs_under_its_own_loader(
    settings: Settings, tmp_path: Path
) -> None:
    program(tmp_path / "sbin/criu", "")
    with Store(settings.cache).publish("tools", "criu-4.3", {}) as root:
        program(root / "usr/sbin/criu", "")
        # The loader is given its libraries, the program and the program's arguments.
        loader = root / "usr/lib64/ld-linux-x86-64.so.2"
        loader.parent.mkdir()
        loader.write_text('#!/bin/sh\n[ "$1" = --library-path ] && echo "Version: 4.3"\n')
        loader.chmod(0o700)
        (root / "usr/lib/x86_64-linux-gnu").mkdir(parents=True)
    found = criu.find(settings)
    assert found.version == "4.3"
    assert found.command[-1].endswith("tools/criu-4.3/usr/sbin/criu")
    assert found.command[2].endswith("usr/lib/x86_64-linux-gnu")


def test_the_first_error_of_the_log_is_told(tmp_path: Path) -> None:
    script = program(
        tmp_path / "criu",
        "cat > $5 <<END\n"
        "(00.01) Warn  (criu/a.c:1): careful\n"
        "(00.02) Error (criu/util.c:1534): rlimit: Can't setup RLIMIT_NOFILE for self\n"
        "(00.03)   8949: Error (criu/files-reg.c:2379): File log has bad size.\n"
        "(00.04) Error (criu/cr-dump.c:1): Dumping FAILED.\n"
        "END\nexit 3",
    )
    with pytest.raises(CriuFailed, match=r"dump failed \(3\): File log has bad size\. "):
        run(Criu((str(script),), "4.2"), tmp_path)


def test_without_a_log_it_is_told_what_was_printed(tmp_path: Path) -> None:
    script = program(tmp_path / "criu", "echo no such library >&2; exit 127")
    with pytest.raises(CriuFailed, match="no such library"):
        run(Criu((str(script),), "4.2"), tmp_path)


def test_one_that_is_killed(tmp_path: Path) -> None:
    script = program(tmp_path / "criu", "kill -KILL $$")
    with pytest.raises(CriuFailed, match=r"was killed \(SIGKILL\)"):
        run(Criu((str(script),), "4.2"), tmp_path)


def test_one_that_hangs_and_does_not_want_to_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(criu, "_GRACE", 0.2)
    script = program(tmp_path / "criu", "trap '' TERM; while :; do :; done")
    with pytest.raises(CriuFailed, match="did not end within 0 s"):
        run(Criu((str(script),), "4.2"), tmp_path, timeout=0.3)


def test_a_cancel_ends_it_and_is_told(tmp_path: Path) -> None:
    script = program(tmp_path / "criu", f"echo $$ > {tmp_path}/pid; exec sleep 1000")
    pid = tmp_path / "pid"

    def check() -> None:
        if pid.exists() and pid.read_text():
            raise Cancelled("it was cancelled.", remedy="")

    with pytest.raises(Cancelled):
        run(Criu((str(script),), "4.2"), tmp_path, check=check)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)
