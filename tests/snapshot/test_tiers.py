from __future__ import annotations

import os
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import CriuMissing, NotPermitted, SnapshotRefused
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import capabilities, procfs, tiers

ALL = "000001ffffffffff"


def status(monkeypatch: pytest.MonkeyPatch, user: int, effective: str, seccomp: str) -> None:
    fields = {"CapEff": effective, "Seccomp": seccomp}
    monkeypatch.setattr(procfs, "status", lambda pid: fields)
    monkeypatch.setattr(os, "geteuid", lambda: user)


def test_undo_points_have_no_names() -> None:
    with pytest.raises(SnapshotRefused) as caught:
        tiers.choose("fork", Settings.read())
    assert "auto on" in caught.value.remedy


def test_parking_makes_no_snapshot(private: Path) -> None:
    with pytest.raises(SnapshotRefused) as caught:
        tiers.best("park", Settings.read())
    assert "%zs_snapshot park" in caught.value.remedy


def test_the_portable_tier_is_taken_where_no_process_can_be_dumped(
    monkeypatch: pytest.MonkeyPatch, private: Path
) -> None:
    status(monkeypatch, 1000, "0", "0")
    choice = tiers.best("auto", Settings.read())
    assert (choice.tier, choice.criu) == ("portable", None)
    assert choice.reason == "an ordinary user may not dump a process"
    with pytest.raises(NotPermitted):
        tiers.best("process", Settings.read())


def test_the_portable_tier_is_taken_where_there_is_no_criu(
    monkeypatch: pytest.MonkeyPatch, private: Path
) -> None:
    status(monkeypatch, 0, ALL, "0")
    monkeypatch.setenv("ZS_CRIU", str(private / "none"))
    choice = tiers.best("auto", Settings.read())
    assert choice.tier == "portable"
    assert choice.reason
    with pytest.raises(CriuMissing):
        tiers.best("process", Settings.read())


def test_what_was_asked_for_is_taken(private: Path) -> None:
    assert tiers.best("portable", Settings.read()).reason == "it was asked for"


def test_a_tier_that_never_was(private: Path) -> None:
    with pytest.raises(SnapshotRefused, match="no tier 'magic'"):
        tiers.choose("magic", Settings.read())


def test_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    status(monkeypatch, 0, ALL, "0")
    assert tiers.permission()


@pytest.mark.parametrize(
    ("user", "effective", "seccomp", "says"),
    [
        (1000, "0", "0", "ordinary user"),
        (0, "00000000a80425fb", "2", "CAP_SYS_PTRACE, CAP_SYS_ADMIN"),
        (0, ALL, "2", "seccomp"),
    ],
)
def test_others_are_told_why_not_before_anything_is_frozen(
    monkeypatch: pytest.MonkeyPatch,
    private: Path,
    user: int,
    effective: str,
    seccomp: str,
    says: str,
) -> None:
    settings = Settings.read()
    status(monkeypatch, user, effective, seccomp)
    with pytest.raises(NotPermitted) as caught:
        tiers.choose("auto", settings)
    assert says in caught.value.message
    assert caught.value.remedy


def test_every_capability_has_a_reason_and_what_does_not_work_a_next_step(private: Path) -> None:
    found = capabilities(Settings.read())
    assert {"criu", "snapshot: permission", "snapshot: process"} <= {each.name for each in found}
    assert len({each.name for each in found}) == len(found)
    for each in found:
        assert each.reason
        assert each.ok or each.remedy


def test_a_setting_that_forbids_user_namespaces_is_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "kernel").mkdir()
    (tmp_path / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    monkeypatch.setattr(tiers, "_SYSCTL", tmp_path)
    found = tiers._namespaces()
    assert not found
    assert "kernel.apparmor_restrict_unprivileged_userns=1" in found.reason
    assert "sysctl kernel.apparmor_restrict_unprivileged_userns=0" in found.remedy
