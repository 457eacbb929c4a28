from __future__ import annotations

import os
from pathlib import Path

import pytest

from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.core.errors import CriuMissing, NotPermitted, SnapshotRefused
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import capabilities, criu, kernelspec, procfs, tiers

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
    assert choice.reason == (
        "an ordinary user may only dump kernels that were started in a namespace of their own"
    )
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


def process(found: list[Capability]) -> Capability:
    return next(each for each in found if each.name == "snapshot: process")


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch, private: Path) -> Settings:
    """An ordinary user in a shell, with a CRIU and with namespaces."""
    status(monkeypatch, 1000, "0", "0")
    monkeypatch.setattr(tiers.criu, "find", lambda settings: criu.Criu(("/criu",), "4.2.1"))
    allowed = Capability("snapshot: user namespaces", True, "allowed to this user")
    monkeypatch.setattr(tiers.permission, "namespaces", lambda: allowed)
    return Settings.read()


def test_doctor_tells_an_ordinary_user_to_set_up_the_kernel_that_can_be_saved(
    somebody: Settings,
) -> None:
    found = process(capabilities(somebody))
    assert not found
    assert "zerostart setup kernel" in found.remedy
    kernelspec.install()
    found = process(capabilities(somebody))
    assert found
    assert found.reason == "CRIU 4.2.1 at /criu, in kernels of 'Python 3 (zerostart)'"


def test_doctor_names_first_what_forbids_namespaces(
    somebody: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    forbidden = Capability(
        "snapshot: user namespaces", False, "a setting forbids them", "change it"
    )
    monkeypatch.setattr(tiers.permission, "namespaces", lambda: forbidden)
    kernelspec.install()
    found = process(capabilities(somebody))
    assert (found.ok, found.reason, found.remedy) == (False, "a setting forbids them", "change it")


def test_doctor_asks_for_criu_where_all_else_is_there(
    somebody: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    def missing(settings: Settings) -> criu.Criu:
        raise CriuMissing("There is none.", remedy="Run `zerostart setup criu`.")

    monkeypatch.setattr(tiers.criu, "find", missing)
    kernelspec.install()
    assert process(capabilities(somebody)).remedy == "Run `zerostart setup criu`."


def test_an_ordinary_user_may_restore_what_it_could_not_save_here(somebody: Settings) -> None:
    assert tiers.for_restore(somebody).version == "4.2.1"
    with pytest.raises(NotPermitted):
        tiers.choose("process", somebody)
