from __future__ import annotations

from pathlib import Path

import pytest

from tests.install.wheels import Wheel
from tests.servers.index import Index
from zerostart_jupyter.bench.install import wheels as sets
from zerostart_jupyter.bench.install.wheels import SETS, WheelSet, fetch
from zerostart_jupyter.core.errors import DigestMismatch, NetworkError


@pytest.fixture
def made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> WheelSet:
    pins = tmp_path / "pins"
    pins.mkdir()
    (pins / "made.txt").write_text("# what it is\nbench-one==1.0\n\nbench-two==1.0\n")
    monkeypatch.setattr(sets, "_PINS", pins)
    return WheelSet("made", ("bench-two",))


@pytest.mark.parametrize("name", SETS)
def test_every_set_is_pinned_and_holds_what_is_asked_of_it(name: str) -> None:
    found = SETS[name]
    pinned = [pin.partition("==")[::2] for pin in found.pins]
    assert all(version for _, version in pinned)
    assert set(found.specs) <= {project for project, _ in pinned}
    assert len({project for project, _ in pinned}) == len(pinned)


def test_sets_are_of_the_sizes_that_are_promised() -> None:
    assert len(SETS["one"].pins) == 1
    assert len(SETS["five"].pins) == 5
    assert len(SETS["science"].pins) > 100
    assert len(SETS["tiny"].pins) == 10
    assert set(SETS["five"].pins) < set(SETS["torch"].pins), "fetched once"


def test_a_set_is_fetched_once(
    made: WheelSet, wheels: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[str] = []
    with Index(wheels) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        first = fetch(made, said.append)
        asked = sum(index.requests.values())
        again = fetch(made, said.append)
        assert sum(index.requests.values()) == asked
    assert first == again
    assert first.count == 2
    assert first.nbytes == sum(len(wheel.data) for wheel in wheels)
    for wheel in wheels:
        assert (first.folder / wheel.filename).read_bytes() == wheel.data
    assert len(said) == 2


def test_a_set_may_come_from_a_directory(
    made: WheelSet, wheels: list[Wheel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    links = tmp_path / "links"
    links.mkdir()
    for wheel in wheels:
        (links / wheel.filename).write_bytes(wheel.data)
    monkeypatch.setenv("PIP_FIND_LINKS", str(links))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    found = fetch(made, lambda text: None)
    assert {path.name for path in found.folder.glob("*.whl")} == {each.filename for each in wheels}


def test_other_pins_are_another_set(
    made: WheelSet, wheels: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(wheels) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        assert fetch(made, lambda text: None).count == 2
        (sets._PINS / "made.txt").write_text("bench-one==1.0\n")
        pooled = sets.home() / "pool" / wheels[0].filename
        before = pooled.stat().st_ino
        again = fetch(made, lambda text: None)
    assert again.count == 1
    assert pooled.stat().st_ino == before, "not fetched anew"
    assert (again.folder / wheels[0].filename).samefile(pooled)


def test_a_wrong_file_is_not_kept(
    made: WheelSet, wheels: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(wheels) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        index.wrong_hash.add(wheels[0].filename)
        with pytest.raises(DigestMismatch, match=wheels[0].filename):
            fetch(made, lambda text: None)
    assert list((sets.home() / "pool").iterdir()) == []


def test_without_the_index_there_is_no_set(
    made: WheelSet, wheels: list[Wheel], monkeypatch: pytest.MonkeyPatch
) -> None:
    with Index(wheels) as index:
        monkeypatch.setenv("UV_DEFAULT_INDEX", index.url)
        index.of(wheels[1]).answers = [(404, {})] * 20
        with pytest.raises(NetworkError):
            fetch(made, lambda text: None)
    assert not (sets.home() / "made" / sets._KNOWN).exists()
