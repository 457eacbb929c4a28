from __future__ import annotations

import os
import sys
import sysconfig
from typing import Any

import pytest

from zerostart_jupyter.install import lock
from zerostart_jupyter.install.answers import request_key
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.lock import Lock, Locked
from zerostart_jupyter.install.requirements import Request

LOCK = Lock((Locked("zs-a", "1.0", "zs_a-1.0-py3-none-any.whl", "https://h/x", "a" * 64),))
UNAME = os.uname()
OTHER: dict[str, tuple[Any, str, Any]] = {
    "implementation": (sys.implementation, "cache_tag", "pypy311"),
    "version": (sys, "version_info", (3, 99, 1)),
    "ABI, free threads say": (lock, "EXTENSION_SUFFIXES", [".cpython-311t-x86_64-linux-gnu.so"]),
    "system": (sys, "platform", "darwin"),
    "platform": (sysconfig, "get_platform", lambda: "linux-riscv64"),
    "machine": (os, "uname", lambda: os.uname_result((*UNAME[:4], "riscv64"))),
    "libc": (os, "confstr", lambda name: {"CS_GNU_LIBC_VERSION": "glibc 9.99"}[name]),
    "interpreter": (sys, "base_prefix", "/elsewhere"),
}


@pytest.mark.parametrize("what", OTHER)
def test_another_interpreter_or_machine_has_keys_of_its_own(
    what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys() -> tuple[str, str]:
        return LOCK.environment_key(), request_key(Request(("zs-a",)), Indexes())

    before = keys()
    assert keys() == before
    monkeypatch.setattr(*OTHER[what])
    assert not set(keys()) & set(before)


def test_a_libc_that_does_not_tell_its_version_is_no_error(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def unknown(name: str) -> str:
        raise ValueError("unrecognized configuration name")

    monkeypatch.setattr(os, "confstr", unknown)
    assert "" in lock.interpreter()
