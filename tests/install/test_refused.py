"""Wheels that break a rule are refused by name and reason, and leave nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.install.conftest import Bring, leftovers, publish
from tests.install.wheels import Entry, finish, make, members, noise, pack
from tests.servers.index import Index
from zerostart_jupyter.core.errors import (
    WheelRejected,
)
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, gather, plan

REFUSED = {
    "unrecorded": (
        pack(
            [
                *members("zs-bad", "1.0", {"zs_bad.py": b""})[:-1],
                Entry("extra.py", b""),
                members("zs-bad", "1.0", {"zs_bad.py": b""})[-1],
            ]
        ),
        "does not list 'extra.py'",
    ),
    "absent": (
        pack(members("zs-bad", "1.0", {"zs_bad.py": b"", "more.py": b""})[1:]),
        "which is not there",
    ),
    "escape": (
        pack(members("zs-bad", "1.0", {"zs_bad-1.0.data/data/../../evil": b""})),
        "leads outside",
    ),
    "own files": (
        pack(members("zs-bad", "1.0", {"zs_bad-1.0.data/data/pyvenv.cfg": b""})),
        "environment itself",
    ),
    "scheme": (
        pack(members("zs-bad", "1.0", {"zs_bad-1.0.data/evil/x": b""})),
        "no part of a wheel",
    ),
    "collision": (
        pack(members("zs-bad", "1.0", {"a.py": b"", "zs_bad-1.0.data/purelib/a.py": b""})),
        "as one file",
    ),
    "name": (pack(members("zs-other", "1.0", {})), "zs_other"),
    "metadata": (
        pack(members("zs-bad", "1.0", {}, metadata="Name: zs-evil\nVersion: 1.0\n")),
        "METADATA",
    ),
    "version": (
        pack(members("zs-bad", "1.0", {}, metadata="Name: zs-bad\nVersion: 2.0\n")),
        "2.0",
    ),
    "tags": (
        pack(members("zs-bad", "1.0", {}, wheel="Wheel-Version: 1.0\nTag: cp27-none-any\n")),
        "other tags",
    ),
    "format": (
        pack(members("zs-bad", "1.0", {}, wheel="Wheel-Version: 2.0\nTag: py3-none-any\n")),
        "format version",
    ),
    "two": (
        pack([*members("zs-bad", "1.0", {}), Entry("zs_bad-2.0.dist-info/METADATA", b"")]),
        "2 dist-info",
    ),
    "not a zip": (b"<html>" + noise(2000) + b"</html>", "end record"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_wheels_that_break_a_rule_are_refused(
    what: str, bring: Bring, index: Index, store: Store, tmp_path: Path
) -> None:
    data, reason = REFUSED[what]
    # uv reads a wheel's metadata for itself; what it refuses never reaches us.
    good = make("zs-bad")
    publish(index, good)
    request = gather(["zs-bad"], index=IndexOptions(index_url=index.url))
    plan(request, settings=Settings.read(cache=store.root), activate=False)
    bad = finish("zs-bad", "1.0", data)
    publish(index, bad)
    (entry,) = store.entries("locked")
    body = json.loads((entry.path / "entry.json").read_text())
    body["about"]["packages"][0]["sha256"] = bad.sha256
    (entry.path / "entry.json").write_text(json.dumps(body))
    with pytest.raises(WheelRejected, match=reason) as caught:
        bring("zs-bad")
    assert "zs_bad-1.0-py3-none-any.whl" in str(caught.value)
    assert leftovers(store) == []
    assert not list(tmp_path.rglob("evil"))
