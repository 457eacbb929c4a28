"""What a live kernel has imported constrains what is installed."""

from __future__ import annotations

import importlib
import importlib.metadata
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make
from tests.patience import PATIENCE
from tests.servers.index import Index
from zerostart_jupyter.core.errors import (
    AlreadyImported,
)


def test_what_is_imported_constrains_the_answer(
    bring: Bring, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(
        index, make("zs-held", "1.0"), make("zs-held", "2.0"), make("zs-user", requires=["zs-held"])
    )
    base = tmp_path / "base" / "site-packages"
    subprocess_install(index, base, "zs-held==1.0")
    monkeypatch.syspath_prepend(str(base))
    importlib.import_module("zs_held")
    found = bring("zs-user")
    assert dict(found.distributions)["zs-held"] == "1.0"
    with pytest.raises(AlreadyImported, match=r"zs_held from zs-held 1\.0") as caught:
        bring("zs-held>=2")
    assert "Restart the kernel" in caught.value.remedy
    subprocess_install(index, base, "zs-user")
    importlib.invalidate_caches()
    importlib.import_module("zs_user")
    publish(index, make("zs-user", "9.0", requires=["zs-held>=2"]))
    with pytest.raises(AlreadyImported, match=r"zs_held from .*, zs_user from zs-user 1\.0"):
        bring("zs-user>=9", "zs-held>=2")  # all of them are named, in one line


def test_what_an_answer_under_constraints_brings_is_looked_at_too(
    bring: Bring, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Keeping the first distribution takes an older zs-top, which wants another second one."""
    names = ["zs-first", "zs-second"]
    publish(index, *(make(name, version) for name in names for version in ("1.0", "2.0")))
    publish(index, make("zs-top", "3.0", requires=["zs-first>=2"]))
    publish(index, make("zs-top", "2.0", requires=["zs-first==1.0", "zs-second>=2"]))
    base = tmp_path / "base" / "site-packages"
    subprocess_install(index, base, "zs-first==1.0", "zs-second==1.0")
    monkeypatch.syspath_prepend(str(base))
    for name in names:
        importlib.import_module(name.replace("-", "_"))
    with pytest.raises(AlreadyImported, match=r"zs_first from .*, zs_second from .*needed: 2\.0"):
        bring("zs-top")
    publish(index, make("zs-top", "1.0", requires=["zs-first", "zs-second"]))
    found = bring("zs-top")
    assert dict(found.distributions) == {"zs-first": "1.0", "zs-second": "1.0", "zs-top": "1.0"}


def test_what_is_only_installed_constrains_nothing(
    bring: Bring, index: Index, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    older = make("zs-newer", "1.0", {"zs_other_name.py": b"V = 1\n"})
    newer = make("zs-newer", "2.0", {"zs_other_name.py": b"V = 2\n"})
    publish(index, older, newer)
    base = tmp_path / "base" / "site-packages"
    subprocess_install(index, base, "zs-newer==1.0")
    monkeypatch.syspath_prepend(str(base))
    index.of(newer).pace = 20_000
    bring("zs-newer", wait=False)
    assert importlib.import_module("zs_other_name").V == 2  # never the older one, meanwhile


def subprocess_install(index: Index, target: Path, *specs: str) -> None:
    from zerostart_jupyter.install.resolve import find_uv

    command = [find_uv(), "pip", "install", "--quiet", "--target", str(target), *specs]
    command += ["--default-index", index.url, "--python", sys.executable]
    subprocess.run(command, check=True, timeout=PATIENCE)
