"""The real pip and the real uv beside us: what either refuses, we refuse."""

from __future__ import annotations

import io
import os
import random
import subprocess
import sys
import zipfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from tests.install.hostile import CODE, changed, whole, wide_end
from tests.install.hostile_contents import VALID
from tests.install.straight import take
from tests.install.wheels import Wheel, finish
from zerostart_jupyter.core.errors import WheelRejected
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install.resolve import find_uv

pytestmark = pytest.mark.slow
UV = ("install", "--quiet", "--no-deps", "--offline", "--no-cache", "--python", sys.executable)
PIP = ("install", "--quiet", "--no-deps", "--no-index", "--no-cache-dir", "--no-compile")
ENVIRON = {
    **{name: value for name, value in os.environ.items() if not name.startswith(("PIP_", "UV_"))},
    "PIP_CONFIG_FILE": os.devnull,
    "UV_NO_CONFIG": "1",
}


def run(wheel: Wheel, folder: Path, *command: str) -> str:
    """What an installer complains of, or nothing."""
    folder.mkdir(parents=True)
    (folder / wheel.filename).write_bytes(wheel.data)
    said = subprocess.run(
        [*command, "--target", str(folder / "target"), str(folder / wheel.filename)],
        capture_output=True,
        text=True,
        env=ENVIRON,
        timeout=120,
        check=False,
    )
    return said.stderr if said.returncode else ""


def uv(wheel: Wheel, folder: Path) -> str:
    return run(wheel, folder / "uv", find_uv(), "pip", *UV)


def pip(wheel: Wheel, folder: Path) -> str:
    return run(wheel, folder / "pip", sys.executable, "-m", "pip", *PIP)


@pytest.mark.parametrize("what", VALID)
def test_odd_wheels_that_we_take_are_taken_by_both(what: str, tmp_path: Path) -> None:
    assert uv(VALID[what].wheel, tmp_path) == ""
    assert pip(VALID[what].wheel, tmp_path) == ""


def test_no_changed_header_is_taken_that_others_refuse(tmp_path: Path) -> None:
    """Every byte of every header changed; what is taken all the same, uv and zipfile take too."""
    store = Store(tmp_path / "cache")
    chance = random.Random(1)
    taken: list[Wheel] = []
    for base in (whole(), changed(CODE, described=True), wide_end(changed(CODE, wide=True))):
        heads = [at for at in range(len(base)) if base.startswith(b"PK", at)]
        for at in sorted({place for head in heads for place in range(head, head + 50)}):
            for value in (0, 1, 8, 0x40, 0xFF, chance.randrange(256)):
                body = bytearray(base)
                body[min(at, len(base) - 1)] = value
                wheel = finish("zs-bad", "1.0", bytes(body))
                if wheel.data != base and accepted(store, wheel):
                    taken.append(wheel)
    assert len(taken) > 300
    some = chance.sample(taken, 300)
    with ThreadPoolExecutor(2) as pool:
        said = pool.map(lambda each: uv(each[1], tmp_path / str(each[0])), enumerate(some))
        assert [each for each in said if each] == []
    for wheel in taken:
        with zipfile.ZipFile(io.BytesIO(wheel.data)) as archive:
            assert archive.testzip() is None


def accepted(store: Store, wheel: Wheel) -> bool:
    try:
        take(store, wheel)
    except WheelRejected:
        return False
    return True
