from __future__ import annotations

import json
from dataclasses import replace

import pytest

from zerostart_jupyter.bench.report import Case, Report, spread
from zerostart_jupyter.core.errors import SettingsError

FULL = Case(
    "a case",
    (1.0, 2.0, 3.0),
    "uv",
    (4.0, 6.0, 5.0),
    "wanted 2",
    ours_cpu=(0.5, 0.7, 0.6),
    theirs_cpu=(1.5,),
    load=1.25,
)
LOST = Case("resets", (1.0,), "uv", (), peer_failed=("reset by peer", "timed out"))
PLAIN = Case("plain", (1.0,), "x", (0.5,))


def report(*cases: Case, uv: str = "1") -> Report:
    return Report("T", cases, {"uv": uv}, {"cores": "2"})


def test_a_ratio_is_of_medians_and_only_where_both_got_there() -> None:
    assert FULL.ratio == 2.5
    assert LOST.ratio is None
    assert Case("x", (), "uv", (1.0,)).ratio is None


def test_the_spread_counts_what_failed() -> None:
    assert spread((2.0, 1.0, 3.0)) == "2 s (1-3)"
    assert spread((256.0,), "MiB") == "256 MiB (256-256)"
    assert spread((), failed=("reset", "late")) == "failed 2 of 2: reset"
    assert spread((1.0,), failed=("reset",)) == "1 s (1-1); failed 1 of 2: reset"
    assert spread(()) == ""


def test_columns_are_there_when_something_is_in_them() -> None:
    assert "CPU" not in report(PLAIN).markdown()
    assert "load" not in report(PLAIN).markdown()
    table = report(FULL, LOST, PLAIN).markdown().splitlines()[4:]
    assert table[0] == (
        "| case | ours | peer | theirs | ratio | CPU s, ours / theirs | load | note |"
    )
    assert table[2] == (
        "| a case | 2 s (1-3) | uv | 5 s (4-6) | 2.50 | 0.6 / 1.5 | 1.2 | wanted 2 |"
    )
    assert table[3] == ("| resets | 1 s (1-1) | uv | failed 2 of 2: reset by peer |  |  |  |  |")
    assert len({line.count("|") for line in table}) == 1
    alone = replace(FULL, theirs_cpu=())
    assert "| 0.6 / - |" in report(alone).markdown()


def test_the_page_has_the_same_cells() -> None:
    page = report(FULL, LOST).html()
    assert "<td>failed 2 of 2: reset by peer</td>" in page
    assert "<th>CPU s, ours / theirs<th>load" in page


def test_a_case_survives_json() -> None:
    for case in (FULL, LOST, PLAIN):
        assert Case.from_json(json.loads(json.dumps(case.as_json()))) == case


def test_rounds_of_an_earlier_run_count() -> None:
    earlier = json.loads(json.dumps(report(PLAIN, FULL).as_json()))
    later = Case("a case", (9.0,), "uv", (8.0,), "wanted 2", ours_cpu=(0.9,), load=3.0)
    joined = report(later, LOST).including(earlier)
    assert [case.name for case in joined.cases] == ["plain", "a case", "resets"]
    both = joined.cases[1]
    assert (both.ours, both.theirs) == ((1.0, 2.0, 3.0, 9.0), (4.0, 6.0, 5.0, 8.0))
    assert (both.ours_cpu, both.load) == ((0.5, 0.7, 0.6, 0.9), 3.0)


def test_rounds_of_other_versions_do_not() -> None:
    with pytest.raises(SettingsError, match="versions"):
        report(FULL, uv="2").including(report(FULL).as_json())
