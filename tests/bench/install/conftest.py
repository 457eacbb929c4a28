from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.install.wheels import Wheel, make
from zerostart_jupyter.bench.install.wheels import Fetched, WheelSet

ROOT = Path(__file__).parents[3]


@pytest.fixture(autouse=True)
def alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No index settings of this machine; child processes find the package under test."""
    for name in list(os.environ):
        if name.startswith(("PIP_", "UV_")) or name.lower().endswith("_proxy"):
            monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_NO_CONFIG", "1")
    monkeypatch.setenv("UV_CACHE_DIR", str(tmp_path / "uv"))
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))


@pytest.fixture
def wheels() -> list[Wheel]:
    noise = os.urandom(300_000)
    return [
        make("bench-one", files={"bench_one.py": b"", "bench_one.bin": noise}),
        make("bench-two", requires=["bench-one"]),
    ]


@pytest.fixture
def fetched(tmp_path: Path, wheels: list[Wheel]) -> Fetched:
    folder = tmp_path / "wheels" / "made"
    folder.mkdir(parents=True)
    for wheel in wheels:
        (folder / wheel.filename).write_bytes(wheel.data)
    return Fetched(WheelSet("made", ("bench-two",), ("bench_two",)), folder)
