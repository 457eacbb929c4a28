from __future__ import annotations

from pathlib import Path

import pytest

from zerostart_jupyter.bench import load as bench


def test_measures_ours_beside_its_peers_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path))
    said: list[str] = []
    report = bench.measure(2, said.append, size=8 << 20)
    assert [(case.peer, len(case.ours), len(case.theirs)) for case in report.cases] == [
        ("load_file", 2, 2),
        ("safe_open + clone", 2, 2),
        ("load_file", 2, 2),
        ("safe_open + clone", 2, 2),
        ("load_file", 2, 2),
    ]
    assert all(seconds > 0 for case in report.cases for seconds in case.ours + case.theirs)
    assert said[0] == "writing 0.01 GiB in 4 shards"
    assert len(said) == 1 + 2 * 3
    assert list(tmp_path.iterdir()) == []


def test_what_is_measured_is_a_checkpoint_all_subjects_read_alike(tmp_path: Path) -> None:
    files = list(bench._checkpoint(tmp_path, 4 << 20))
    one, other = bench._load_file(files), bench._clones(files)
    ours = bench.load(tmp_path, device="cpu")
    assert set(one) == set(other) == set(ours)
    assert sum(path.stat().st_size for path in files) == pytest.approx(4 << 20, rel=0.2)
    for name, tensor in ours.items():
        bits = tensor.view(bench.torch.int16)
        assert bench.torch.equal(bits, one[name].view(bench.torch.int16))
        assert bench.torch.equal(bits, other[name].view(bench.torch.int16))


def test_the_size_fits_the_machine(tmp_path: Path) -> None:
    assert 0 < bench._fitting(tmp_path) <= bench.SIZE
