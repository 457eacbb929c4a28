from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import CriuMissing
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import criu, fetch

DEB822 = """\
Types: deb deb-src
# a comment between
URIs: http://mirror.example/debian
Suites: bookworm bookworm-updates
Components: main
Signed-By: /usr/share/keyrings/debian-archive-keyring.gpg

Types: deb
URIs: http://mirror.example/debian-security
Suites: bookworm-security
Components: main
"""


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A Debian 12 with one mirror and its keyring."""
    (tmp_path / "etc/apt/sources.list.d").mkdir(parents=True)
    (tmp_path / "etc/os-release").write_text('ID=debian\nVERSION_CODENAME="bookworm"\n')
    (tmp_path / "etc/apt/sources.list.d/debian.sources").write_text(DEB822)
    (tmp_path / "keyrings").mkdir()
    (tmp_path / "keyrings/debian-archive-keyring.gpg").touch()
    monkeypatch.setattr(fetch, "_ETC", tmp_path / "etc")
    monkeypatch.setattr(fetch, "_KEYRINGS", tmp_path / "keyrings")
    return tmp_path


def source() -> str | None:
    return fetch._source(fetch._os_release())


def test_the_machines_own_mirror_is_used(machine: Path) -> None:
    keyring = machine / "keyrings/debian-archive-keyring.gpg"
    assert source() == f"deb [signed-by={keyring}] http://mirror.example/debian sid main"


@pytest.mark.parametrize(
    "line",
    [
        "deb http://old.example/debian bookworm main",
        "deb [arch=amd64 signed-by=/x] http://old.example/debian bookworm main contrib",
    ],
)
def test_the_one_line_style_is_read_too(machine: Path, line: str) -> None:
    (machine / "etc/apt/sources.list.d/debian.sources").unlink()
    (machine / "etc/apt/sources.list").write_text(
        f"# deb http://no.example/debian bookworm main\n"
        f"deb http://other.example/security bookworm-security main\n{line}\n"
    )
    assert " http://old.example/debian sid main" in str(source())


def test_without_a_keyring_it_says_what_to_install(machine: Path) -> None:
    (machine / "keyrings/debian-archive-keyring.gpg").unlink()
    with pytest.raises(CriuMissing, match="debian-archive-keyring"):
        source()


@pytest.mark.parametrize(
    ("release", "remedy"),
    [
        ("ID=fedora\n", "dnf install criu"),
        ("ID=arch\n", "pacman -S criu"),
        ("ID=nixos\n", "criu.org"),
        ("", "criu.org"),
    ],
)
def test_elsewhere_it_says_what_to_install(machine: Path, release: str, remedy: str) -> None:
    (machine / "etc/os-release").write_text(release)
    with pytest.raises(CriuMissing) as caught:
        source()
    assert remedy in caught.value.remedy


@pytest.mark.parametrize(
    "release", ["ID=ubuntu\nID_LIKE=debian\n", "ID=linuxmint\nID_LIKE='ubuntu debian'\n"]
)
def test_on_ubuntu_apts_own_sources_are_asked(machine: Path, release: str) -> None:
    (machine / "etc/os-release").write_text(release)
    assert source() is None


@pytest.mark.network
def test_apts_own_sources_may_have_only_an_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if fetch._os_release().get("VERSION_CODENAME") != "bookworm":
        pytest.skip("only Debian 12 is known to offer an old CRIU")
    monkeypatch.setattr(fetch, "_os_release", lambda: {"ID": "ubuntu", "ID_LIKE": "debian"})
    settings = Settings(cache=tmp_path / "cache", criu="")
    with pytest.raises(CriuMissing, match=r"older than 4\.2|does not run here") as caught:
        fetch.fetch(settings)
    assert "ppa:criu/ppa" in caught.value.remedy
    assert list((tmp_path / "cache/tools").iterdir()) == []


def test_an_apt_that_fails_is_told_in_its_own_words(
    machine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (machine / "bin").mkdir()
    for name in ("apt-get", "dpkg"):
        path = machine / "bin" / name
        path.write_text("#!/bin/sh\necho 'W: hm' >&2\necho 'E: no route to mirror' >&2\nexit 100\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", f"{machine}/bin{os.pathsep}{os.environ['PATH']}")
    settings = Settings(cache=machine / "cache")

    with pytest.raises(CriuMissing, match="no route to mirror"):
        fetch.fetch(settings)
    assert list((machine / "cache/tools").iterdir()) == []


@pytest.mark.network
def test_the_real_thing_runs(tmp_path: Path) -> None:
    if fetch._os_release().get("ID") != "debian":
        pytest.skip("only Debian's packages are unpacked")
    settings = Settings(cache=tmp_path / "cache", criu="")
    steps: list[str] = []
    found = fetch.fetch(settings, lambda step, seconds: steps.append(step))
    assert found.new_enough
    assert criu.find(settings) == found
    assert [step.split()[0] for step in steps] == ["read", "download", "unpack"]
    assert fetch.fetch(settings) == found
