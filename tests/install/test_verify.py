from __future__ import annotations

import importlib
import os
import sys
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, members
from tests.servers.index import Index
from zerostart_jupyter.core.errors import DigestMismatch
from zerostart_jupyter.core.events import Hub, operation
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import scripts, verify

SCRIPTS = {
    "zs_sound.py": b"",
    "zs_sound-1.0.data/scripts/plain": b"#!/bin/sh\necho\n",
    "zs_sound-1.0.data/scripts/rewritten": b"#!python\nprint()\n",
    "zs_sound-1.0.data/scripts/windowed": b"#!pythonw -x\nprint()\n",
    "zs_sound-1.0.data/data/share/zs": b"data",
}


def check(site: Path, *names: str) -> list[str]:
    with operation("verify", "it", hub=Hub()) as work:
        return [row.path.name for row in verify.differing(verify.recorded(site, names), work, 2)]


def test_what_was_installed_is_what_was_recorded(bring: Bring, index: Index) -> None:
    entry = "[console_scripts]\nzs-sound = zs_sound:main\n"
    publish(index, make("zs-sound", files=SCRIPTS, entry_points=entry))
    found = bring("zs-sound", verify=True)
    assert (found.bin / "rewritten").read_bytes().startswith(b"#!/")
    assert bring("zs-sound", verify=True).warm


def test_an_interpreter_with_spaces_in_its_path_is_seen_through(
    bring: Bring, index: Index, monkeypatch: pytest.MonkeyPatch
) -> None:
    publish(index, make("zs-sound", files=SCRIPTS))
    true = scripts.shebang
    monkeypatch.setattr(scripts, "shebang", lambda _: true("/a b/python"))
    found = bring("zs-sound", verify=True)
    assert (found.bin / "rewritten").read_bytes().startswith(b"#!/bin/sh\n")


@pytest.mark.parametrize("how", ["edited", "gone", "script"])
def test_what_differs_is_named_and_made_again(
    bring: Bring, index: Index, store: Store, how: str
) -> None:
    publish(index, make("zs-sound", files=SCRIPTS), make("zs-other"))
    found = bring("zs-sound", "zs-other")
    path = found.bin / "rewritten" if how == "script" else found.site_packages / "zs_sound.py"
    if how == "gone":
        path.unlink()
    else:
        path.write_bytes(path.read_bytes() + b"print('edited')\n")
    assert bring("zs-sound", "zs-other").warm  # nobody looks without being asked
    with pytest.raises(DigestMismatch, match=f"{path.name} is not what zs-sound recorded"):
        bring("zs-sound", "zs-other", verify=True)
    again = bring("zs-sound", "zs-other", verify=True)
    assert not again.warm
    assert b"edited" not in path.read_bytes()


def test_a_wheel_whose_record_is_wrong_is_refused(bring: Bring, index: Index) -> None:
    info = "zs_lies-1.0.dist-info"
    rows = [f"zs_lies.py,sha256={'A' * 43},3", *(f"{info}/{n},," for n in ("METADATA", "WHEEL"))]
    record = "\n".join([*rows, f"{info}/RECORD,,", ""]).encode()
    publish(index, make("zs-lies", files={"zs_lies.py": b"X=1"}, record=record))
    with pytest.raises(DigestMismatch, match=r"zs_lies\.py is not what zs-lies recorded"):
        bring("zs-lies", verify=True)


BARE = {"zs_bare.py": b"X = 1\n", "zs_bare-1.0.data/scripts/zs-bare": b"#!/bin/sh\n"}


@pytest.mark.parametrize("name", BARE)
def test_a_file_without_a_hash_is_not_sound(bring: Bring, index: Index, name: str) -> None:
    rows = members("zs-bare", "1.0", BARE)[-1].content.decode().splitlines()
    record = "".join(f"{name},,\n" if row.startswith(name) else f"{row}\n" for row in rows)
    publish(index, make("zs-bare", files=BARE, record=record.encode()))
    with pytest.raises(DigestMismatch, match=r"has no hash in what zs-bare recorded\."):
        bring("zs-bare", verify=True)


def test_what_an_installer_writes_beside_needs_no_hash(tmp_path: Path) -> None:
    info = "zs_weak-1.0.dist-info"
    (tmp_path / info).mkdir()
    rows = [f"{info}/{file},," for file in ("RECORD", "RECORD.jws", "INSTALLER", "REQUESTED")]
    rows += ["INSTALLER,,", "__pycache__/zs_weak.cpython-311.pyc,,"]
    (tmp_path / info / "RECORD").write_text("\n".join(rows))
    found = verify.recorded(tmp_path, ["zs-weak"])
    assert [row.path.name for row in found] == ["INSTALLER", "zs_weak.cpython-311.pyc"]
    found = verify.recorded(tmp_path, ["zs-weak"], compiled=True)  # by pip
    assert [row.path.name for row in found] == ["INSTALLER"]


@pytest.mark.parametrize("field", ["", "md5=kAFQmDzST7DWlj99KOF_cg", "shake_128=AA", "none=AA"])
def test_a_hash_that_proves_nothing_is_none(tmp_path: Path, field: str) -> None:
    info = tmp_path / "zs_weak-1.0.dist-info"
    info.mkdir()
    (tmp_path / "zs_weak.py").write_text("abc")
    (info / "RECORD").write_text(f"zs_weak.py,{field},3\nzs_weak-1.0.dist-info/RECORD,,\n")
    assert check(tmp_path, "zs-weak") == ["zs_weak.py"]


def test_a_distribution_without_a_record_is_not_sound(tmp_path: Path) -> None:
    (tmp_path / "zs_bare-1.0.dist-info").mkdir()
    assert check(tmp_path, "zs-bare", "zs-absent") == ["RECORD"]


def test_a_file_of_two_distributions_is_right_for_one(bring: Bring, index: Index) -> None:
    one = make("zs-share-a", files={"zs_share.py": b"A = 1\n"})
    two = make("zs-share-b", files={"zs_share.py": b"B = 1\n"})
    publish(index, one, two)
    found = bring("zs-share-a", "zs-share-b", verify=True)
    assert importlib.import_module("zs_share").__file__ == str(found.site_packages / "zs_share.py")
    os.unlink(found.site_packages / "zs_share.py")
    assert check(found.site_packages, "zs-share-a", "zs-share-b") == ["zs_share.py"] * 2
    sys.modules.pop("zs_share")
