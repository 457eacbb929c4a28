from __future__ import annotations

import os
import tempfile
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from tests.load.test_loader import same
from zerostart_jupyter.bench import checkpoints, device, floors, shapes
from zerostart_jupyter.bench import load as bench
from zerostart_jupyter.bench.loaders import ours, peers
from zerostart_jupyter.bench.picture import timeline
from zerostart_jupyter.bench.report import Report
from zerostart_jupyter.bench.rounds import Rounds, drop, timed, touch
from zerostart_jupyter.load import header
from zerostart_jupyter.load.disk import cached

ROOT = Path(__file__).parents[2]
SHAPES: dict[str, Callable[[int], shapes.Shapes]] = {
    "dense": lambda size: shapes.Llama.of(size).shapes(),
    "experts": shapes.experts,
    "packed": shapes.packed,
}


def test_measures_ours_beside_its_peers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path))
    said: list[str] = []
    report = bench.measure(2, said.append, size=16 << 20)
    found = {(case.name, case.peer): case for case in report.cases}
    for kind in ("8B", "30B mixture", "120B in 4 bits"):
        for peer in ("load_file", "safe_open + clone", "fastsafetensors", "Run:ai streamer"):
            assert sum(name.startswith(f"{kind} (") and peer == who for name, who in found) == 2
    assert any("accelerate()" in name for name, _ in found)
    assert any("layered" in name for name, _ in found)
    assert sum(name.startswith("from a hub (") for name, _ in found) == 4
    assert all(len(case.ours) == len(case.theirs) == 2 for case in report.cases)
    for (name, _), case in found.items():
        assert (case.possible is not None) == name.endswith("), cold"), name
    assert "| at most | floor |" in report.markdown()
    assert all(seconds > 0 for case in report.cases for seconds in case.ours + case.theirs)
    assert {"disk", "first touch", "memcpy", "own memory of a load"} <= set(report.machine)
    assert "the disk alone" in report.html()
    assert list(tmp_path.glob("bench-*")) == []


def test_what_is_cold_is_parsed_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = checkpoints.write("dense", SHAPES["dense"](4 << 20), tmp_path / "made")
    for path in made.files:
        os.utime(path, (0, 0))  # at rest: its header is remembered
    parse, parsed = header.parse, []

    def counted(text: bytes, data: int) -> header.Header:
        parsed.append(data)
        return parse(text, data)

    monkeypatch.setattr(header, "parse", counted)
    for _ in range(2):
        timed(ours, made.files)
    assert len(parsed) == len(made.files)
    drop(made.files)
    timed(ours, made.files)
    assert len(parsed) == 2 * len(made.files)


@pytest.mark.parametrize("shape", SHAPES)
def test_what_is_measured_is_a_checkpoint_all_subjects_read_alike(
    tmp_path: Path, shape: str
) -> None:
    made = checkpoints.write(shape, SHAPES[shape](16 << 20), tmp_path / "made")
    assert len(made.files) == checkpoints.SHARDS
    assert made.nbytes == pytest.approx(16 << 20, rel=0.5)
    with ours(made.files) as tensors:
        assert len(tensors) == made.tensors
        for load in peers().values():
            with load(made.files) as others:
                assert set(others) == set(tensors)
                assert all(same(tensors[name], others[name]) for name in tensors)


def test_shapes_scale_with_the_machine() -> None:
    for size in (1 << 30, 4 << 30):
        for shape in SHAPES.values():
            total = sum(map(shapes.nbytes, shape(size).values()))
            assert total == pytest.approx(size, rel=0.25)
    assert len(SHAPES["dense"](1 << 30)) == 291, "as many tensors as an 8B has"
    assert len(shapes.experts(4 << 30)) == 48 * 128 * 3


def test_the_size_fits_the_machine(tmp_path: Path) -> None:
    assert 0 < bench._fitting(tmp_path) <= bench.SIZE


def test_everybody_has_a_turn_in_each_round() -> None:
    order: list[str] = []
    said: list[str] = []

    def turn(name: str) -> int:
        order.append(name)
        return len(order)

    found = Rounds(3, said.append).run({name: lambda name=name: turn(name) for name in "abc"})  # type: ignore[misc]
    assert [len(each) for each in found.values()] == [3, 3, 3]
    assert all(set(order[at : at + 3]) == set("abc") for at in (0, 3, 6))
    assert len(said) == 9


def test_dropped_files_are_read_again() -> None:
    (ROOT / ".work").mkdir(exist_ok=True)
    # Where the project is: pytest's own folder may be a tmpfs, which keeps its pages.
    with tempfile.TemporaryDirectory(dir=ROOT / ".work") as folder:
        path = Path(folder) / "x"
        path.write_bytes(bytes(8 << 20))
        assert cached([path]) == 1
        drop([path])
        assert cached([path]) < 0.5


def test_the_floors_are_rates() -> None:
    assert set(floors.memory()) == {"first touch", "memcpy"}
    assert all(float(rate.split()[0]) > 0 for rate in floors.memory().values())


class TestPicture:
    def test_a_line_for_each_and_the_disks_dashed(self) -> None:
        lines = [("a & b", [(0.0, 0.0), (0.5, 1e9), (1.0, 2e9)]), ("all", [(0.0, 0.0), (1.0, 2e9)])]
        drawn = ElementTree.fromstring(timeline("One <load>", lines, 4e9))
        space = "{http://www.w3.org/2000/svg}"
        texts = [each.text for each in drawn.iter(f"{space}text")]
        assert {"One <load>", "a & b", "all", "the disk alone", "1.00 s", "2.00 GB"} <= set(texts)
        paths = [each.attrib for each in drawn.iter(f"{space}path")]
        assert len(paths) == 4
        (dashed,) = [each for each in paths if "stroke-dasharray" in each]
        assert dashed["d"].endswith("L313.0,24.0"), "at 4 GB/s, 2 GB are there at half time"

    def test_a_file_system_that_does_not_say_has_no_ceiling(self) -> None:
        drawn = timeline("x", [("all", [(0.0, 0.0), (0.0, 0.0)])], None)
        assert "the disk alone" not in drawn
        ElementTree.fromstring(drawn)


def test_pictures_are_in_the_page_and_nowhere_else() -> None:
    report = Report("t", (), {}, {}, ("<svg/>",))
    assert "<svg/>" in report.html()
    assert "svg" not in report.markdown()


def test_a_tensor_of_each_type_can_be_touched() -> None:
    touch({"a": torch.ones(3, 5, dtype=torch.bfloat16), "b": torch.zeros(9000, dtype=torch.uint8)})


@pytest.mark.parametrize("where", [pytest.param("cuda:0", marks=pytest.mark.gpu), "cpu"])
def test_a_device_is_measured_against_the_bus_and_the_disk(tmp_path: Path, where: str) -> None:
    made = checkpoints.write("8B", SHAPES["dense"](16 << 20), tmp_path / "made")
    cases, about = device.cases(made, where, 2, lambda text: None)
    assert [case.peer for case in cases] == ["load_file", "fastsafetensors"] * 2
    for case in cases:
        assert len(case.ours) == len(case.theirs) == 2
        assert case.floor
        assert min(case.floor) > 0
        assert where in case.name
    cold, warm = cases[0], cases[2]
    assert min(cold.floor) >= warm.floor[0], "cold, a byte has the same way to go and more"
    assert about["reader"] == ("mmap" if where == "cpu" else about["reader"])
    assert about["pinned memory to the device"].endswith(" GB/s")
