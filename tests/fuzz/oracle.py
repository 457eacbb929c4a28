"""What must hold for any bytes under a wheel's name: they are refused, or what is published is
what Python's zipfile reads; nothing else is raised, left behind or touched."""

from __future__ import annotations

import io
import os
import zipfile
from pathlib import Path

from tests.install.hostile import DATA, NAME, VERSION
from tests.install.straight import install
from tests.install.wheels import finish
from zerostart_jupyter.core.errors import WheelRejected
from zerostart_jupyter.core.store import Store

PARTS = {"purelib": "site", "platlib": "site"}


def check(data: bytes, folder: Path, *, step: int = 1 << 20) -> bool:
    """True if the wheel was taken and is right, False if it was refused; else AssertionError."""
    root = folder / "environment"
    folder.mkdir(exist_ok=True)
    store = Store(folder / "cache")
    wheel = finish(NAME, VERSION, data)
    try:
        install(store, wheel, root, step=step)
    except WheelRejected as error:
        refused = str(error)
    else:
        refused = ""
    if refused:
        assert refused.isprintable(), refused
        assert below(folder) == {}
        return False
    assert set(os.listdir(folder)) == {"cache", "environment"}
    assert below(store.path("wheels", wheel.sha256) / "tree") == expected(data)
    return True


def below(folder: Path) -> dict[str, tuple[bytes, bool]]:
    """Content of every file but for locks, and whether it can be executed."""
    return {
        str(path.relative_to(folder)): (path.read_bytes(), bool(path.stat().st_mode & 0o111))
        for path in folder.rglob("*")
        if path.is_file() and path.parent.name != "locks"
    }


def expected(data: bytes) -> dict[str, tuple[bytes, bool]]:
    """The same of a wheel, by a reader that is not ours."""
    found = {}
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        for info in archive.infolist():
            if not info.is_dir():
                at = place(info.filename)
                runs = bool(info.external_attr >> 16 & 0o111) or at.startswith("scripts/")
                found[at] = (archive.read(info), runs)
    return found


def place(name: str) -> str:
    top, _, rest = name.partition("/")
    if top != DATA:
        return f"site/{name}"
    part, _, path = rest.partition("/")
    return f"{PARTS.get(part, part)}/{path}"
