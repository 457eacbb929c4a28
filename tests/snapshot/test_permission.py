from __future__ import annotations

import errno
import os
import subprocess
from pathlib import Path
from types import SimpleNamespace

import pytest

from zerostart_jupyter.snapshot import permission, procfs, revival

ALL = "000001ffffffffff"


@pytest.fixture
def somebody(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An ordinary user on a machine without a setting of interest; what stands for /proc/sys."""
    become(monkeypatch, 1000, "0")
    monkeypatch.setattr(permission, "_SYSCTL", tmp_path)
    return tmp_path


def become(monkeypatch: pytest.MonkeyPatch, user: int, effective: str, seccomp: str = "0") -> None:
    fields = {"CapEff": effective, "Seccomp": seccomp}
    monkeypatch.setattr(procfs, "status", lambda pid: fields)
    monkeypatch.setattr(os, "geteuid", lambda: user)


def refused(monkeypatch: pytest.MonkeyPatch, number: int, step: str) -> None:
    """Have a trial end with this errno at this call or file."""
    answer = SimpleNamespace(returncode=1, stdout=f"{number} {step}\n")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)


def test_root_may(monkeypatch: pytest.MonkeyPatch) -> None:
    become(monkeypatch, 0, ALL)
    assert permission.to_save()
    assert permission.to_restore()


@pytest.mark.parametrize(
    ("user", "effective", "seccomp", "says"),
    [
        (0, "00000000a80425fb", "2", "CAP_SYS_PTRACE, CAP_SYS_ADMIN"),
        (0, ALL, "2", "seccomp"),
        (1000, "0", "2", "seccomp"),
    ],
)
def test_who_may_neither_save_nor_restore_is_told_why(
    monkeypatch: pytest.MonkeyPatch, user: int, effective: str, seccomp: str, says: str
) -> None:
    become(monkeypatch, user, effective, seccomp)
    for found in (permission.to_save(), permission.to_restore()):
        assert not found
        assert says in found.reason
        assert found.remedy


def test_an_ordinary_user_may_restore_but_not_save_a_kernel_that_was_started_elsewhere(
    somebody: Path,
) -> None:
    assert permission.to_restore()
    found = permission.to_save()
    assert not found
    assert "zerostart setup kernel" in found.remedy


def test_an_ordinary_user_may_save_a_kernel_that_has_a_shepherd(
    somebody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(revival, "shepherd", lambda: object())
    assert permission.to_save()


@pytest.mark.parametrize(
    ("switch", "value", "allows"),
    [
        ("kernel/unprivileged_userns_clone", "0", "1"),
        ("user/max_user_namespaces", "0", "15000"),
        ("user/max_pid_namespaces", "0", "15000"),
        ("user/max_mnt_namespaces", "0", "15000"),
        ("kernel/apparmor_restrict_unprivileged_userns", "1", "0"),
    ],
)
def test_the_setting_that_forbids_namespaces_is_named_with_what_allows_them(
    somebody: Path, monkeypatch: pytest.MonkeyPatch, switch: str, value: str, allows: str
) -> None:
    (somebody / switch).parent.mkdir()
    (somebody / switch).write_text(f"{value}\n")
    refused(monkeypatch, errno.EPERM, "/proc/self/uid_map")
    found = permission.namespaces()
    setting = switch.replace("/", ".")
    assert not found
    assert found.reason == f"{setting}={value} forbids them to ordinary users."
    assert found.remedy == f"An administrator may run `sysctl {setting}={allows}`."


def test_a_setting_does_not_count_where_a_trial_succeeds(
    somebody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (somebody / "kernel").mkdir()
    (somebody / "kernel/apparmor_restrict_unprivileged_userns").write_text("1\n")
    answer = SimpleNamespace(returncode=0, stdout="")  # AppArmor has a profile for this Python
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: answer)
    assert permission.namespaces()


@pytest.mark.parametrize(
    ("number", "step", "says", "remedy"),
    [
        (errno.EPERM, "mount", "/proc is masked", "systempaths=unconfined"),
        (errno.EINVAL, "unshare", "CONFIG_USER_NS", "portable"),
        (errno.ENOSPC, "unshare", "limit below /proc/sys/user", "Ask whoever runs"),
        (errno.EPERM, "unshare", "refused at unshare: Operation not permitted", "Ask whoever"),
        (0, "", "refused at the start: it did not say why", "Ask whoever runs"),
    ],
)
def test_what_no_setting_explains_is_told_by_where_it_failed(
    somebody: Path,
    monkeypatch: pytest.MonkeyPatch,
    number: int,
    step: str,
    says: str,
    remedy: str,
) -> None:
    refused(monkeypatch, number, step)
    found = permission.namespaces()
    assert not found
    assert says in found.reason
    assert remedy in found.remedy


def test_a_seccomp_filter_that_refuses_is_named(
    somebody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    become(monkeypatch, 1000, "0", "2")
    refused(monkeypatch, errno.EPERM, "unshare")
    assert "seccomp filter" in permission.namespaces().reason


def test_a_namespace_that_is_refused_to_a_restore_names_the_setting(
    somebody: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (somebody / "user").mkdir()
    (somebody / "user/max_user_namespaces").write_text("0\n")
    error = permission.not_permitted(OSError(errno.ENOSPC, "No space left", "unshare"))
    assert "user.max_user_namespaces=0" in error.message
    become(monkeypatch, 0, ALL)
    assert "doctor" in permission.not_permitted(OSError(errno.EPERM, "no", "mount")).remedy
