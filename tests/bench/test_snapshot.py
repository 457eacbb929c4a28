from __future__ import annotations

from pathlib import Path

import pytest

from tests.snapshot import conftest as snapshots
from zerostart_jupyter import snapshot
from zerostart_jupyter.bench.snapshot import measure

private = snapshots.private
with_criu = snapshots.with_criu


@pytest.mark.criu
@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_every_kind_is_measured_and_nothing_stays(with_criu: Path) -> None:
    notes: list[str] = []
    report = measure(1, notes.append, arrays=64 << 20)
    names = [case.name for case in report.cases]
    assert {"small: first reply", "small: save", "arrays of 64.0 MiB: first reply"} <= set(names)
    for case in report.cases:
        each_cell = case.name.endswith("cell with an undo point")
        assert len(case.ours) == len(case.theirs) == (8 if each_cell else 1)
        assert min(*case.ours, *case.theirs) > 0
    kinds = {note.partition(":")[0] for note in notes} - {"undo"}
    assert kinds < {each.partition(":")[0] for each in names}
    assert any(each.endswith(": undo to first answer") for each in names)
    assert snapshot.snapshots() == []
