"""Hostile wheels are refused by name and reason, and odd ones are taken: one table of each."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.install.hostile import Case
from tests.install.hostile_archives import ARCHIVES
from tests.install.hostile_contents import CONTENTS, VALID
from tests.install.straight import install
from zerostart_jupyter.core.errors import WheelRejected
from zerostart_jupyter.core.store import Store

HOSTILE = {**ARCHIVES, **CONTENTS}


def everything(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*")}


@pytest.mark.parametrize("what", HOSTILE)
def test_refused(what: str, tmp_path: Path) -> None:
    case = HOSTILE[what]
    store = Store(tmp_path / "cache")
    before = everything(tmp_path)
    with pytest.raises(WheelRejected) as caught:
        install(store, case.wheel, tmp_path / "environment")
    assert caught.value.message.startswith(f"{case.wheel.filename} was refused: ")
    assert re.search(case.reason, caught.value.message), caught.value.message
    assert str(caught.value).isprintable()  # nothing of a name reaches a terminal as it is
    left = {name for name in everything(tmp_path) - before if not name.startswith("cache/locks/")}
    assert left == set()  # neither published, nor staged, nor anywhere else
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("step", [1 << 20, 61])
@pytest.mark.parametrize("what", VALID)
def test_taken(what: str, step: int, tmp_path: Path) -> None:
    case: Case = VALID[what]
    found = install(Store(tmp_path / "cache"), case.wheel, tmp_path / "environment", step=step)
    assert (found.site / "zs_bad" / "__init__.py").read_bytes().startswith(b"NAME")
