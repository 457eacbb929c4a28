"""The rows with tiny wheels: what is compared really runs. Nothing here looks at how fast."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from zerostart_jupyter.bench.install import clients, measure, nginx, rows, subjects, table
from zerostart_jupyter.bench.install.rows import Ground, Row, compared
from zerostart_jupyter.bench.install.servers import Link
from zerostart_jupyter.bench.install.turns import Sample, Subject, Turn, python
from zerostart_jupyter.bench.install.wheels import Fetched
from zerostart_jupyter.bench.report import Case
from zerostart_jupyter.cli.main import main
from zerostart_jupyter.core.errors import SettingsError

needs_nginx = pytest.mark.skipif(
    not nginx.capability(), reason=nginx.capability().reason + " " + nginx.capability().remedy
)


@pytest.fixture
def here(fetched: Fetched, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Makes a table of rows over the tiny wheels."""
    monkeypatch.setattr(table, "fetch", lambda wanted, note: fetched)

    def make(*made: tuple[str, Link, Callable[[Ground], list[Case]]]) -> None:
        some = tuple(
            Row("one", f"{what} of {{count}}", fetched.about, link, how, "wanted 1")
            for what, link, how in made
        )
        monkeypatch.setattr(table, "ROWS", some)

    return make


def test_each_comparison_runs(here: Callable[..., None]) -> None:
    here(
        ("cold", Link(), compared(subjects.cold())),
        ("store", Link(), compared(subjects.from_store())),
        ("import", Link(), compared(subjects.first_import("bench_two"))),
        ("run", Link(), compared(subjects.warm_run(), times=2)),
    )
    said: list[str] = []
    report = measure(1, said.append)
    assert [case.name for case in report.cases] == [
        f"{what} of 2; HTTP/1.1, no limit" for what in ("cold", "store", "import", "run")
    ]
    assert [len(case.ours) for case in report.cases] == [1, 1, 1, 2]
    for case in report.cases:
        assert case.failed == case.peer_failed == ()
        assert len(case.ours) == len(case.theirs) == len(case.ours_cpu) == len(case.theirs_cpu)
        assert min(case.ours + case.theirs + case.ours_cpu + case.theirs_cpu) > 0
        assert case.load is not None
        assert case.note == "wanted 1"
    assert report.versions["uv"][0].isdigit()


def test_a_row_that_cannot_be_prepared_is_not_the_end(here: Callable[..., None]) -> None:
    def prepare(turn: Turn) -> None:
        turn.run(python("import sys; sys.exit('no room')"))

    broken = {name: Subject(lambda turn: Sample(1.0), prepare) for name in ("zerostart", "uv")}
    here(("broken", Link(), compared(broken)), ("cold", Link(), compared(subjects.cold())))
    first, second = measure(1, lambda text: None).cases
    assert (first.ours, first.failed) == ((), ("no room",))
    assert len(second.ours) == len(second.theirs) == 1


@needs_nginx
def test_both_trust_the_authority_and_come_far(here: Callable[..., None]) -> None:
    far = Link(tls=True, trip=0.01)
    here(("cold", far, compared(subjects.cold())))
    (case,) = measure(1, lambda text: None).cases
    assert case.failed == case.peer_failed == ()
    assert len(case.ours) == len(case.theirs) == 1


def test_memory_and_a_warm_cell(here: Callable[..., None]) -> None:
    here(("memory", Link(), rows.peak_memory), ("cell", Link(), rows.warm_cell))
    held, cell = measure(1, lambda text: None).cases
    assert held.unit == "MiB"
    assert held.theirs[0] > 1
    assert len(cell.ours) == 1
    assert cell.theirs == ()


@pytest.mark.parametrize("tls", [False, pytest.param(True, marks=needs_nginx)])
def test_every_client_fetches_all_of_it(
    here: Callable[..., None], fetched: Fetched, tls: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    sorted(fetched.folder.glob("*.whl"))[1].unlink()
    here(("clients", Link(tls=tls), rows.http_clients))
    found = measure(1, lambda text: None).cases
    peers = {case.peer.rpartition(" ")[0] for case in found}
    assert peers == set(clients.importable(tls=tls)) - {"http.client"}
    assert {"urllib3", "httpx"} <= peers
    assert all(case.peer[-1].isdigit() for case in found), "with its version"
    assert all(case.unit == "CPU s" and case.ours[0] > 0 < case.theirs[0] for case in found)


def test_rows_that_need_nginx_are_left_out_aloud(
    here: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(nginx, "found", lambda program: None)
    here(("cold", Link(tls=True), compared(subjects.cold())))
    said: list[str] = []
    assert measure(1, said.append).cases == ()
    (line,) = said
    assert "Left out: cold" in line
    assert "apt install nginx-light" in line


def test_every_set_has_rows_and_no_other_is_known() -> None:
    assert set(table.SETS) == {"one", "five", "torch", "science", "tiny", "clients"}
    with pytest.raises(SettingsError, match="no set 'two'") as refused:
        measure(1, lambda text: None, sets=["one", "two"])
    assert "clients" in refused.value.remedy


def test_names_of_rows_are_their_own(fetched: Fetched) -> None:
    names = [(row.set, row.title(fetched)) for row in rows.ROWS]
    assert len(set(names)) == len(names), "rounds of two runs are joined by name"


def test_sizes_in_a_title(tmp_path: Path, fetched: Fetched) -> None:
    row = Row("one", "one {size} wheel", fetched.about, Link(), rows.warm_cell)
    path = next(fetched.folder.glob("*.whl"))
    for size, said in ((594_000_000, "594 MB"), (3_100_000_000, "3.1 GB")):
        with open(path, "r+b") as file:
            file.truncate(size)
        assert row.title(fetched).startswith(f"one {said} wheel;")


class TestCommand:
    def test_writes_what_was_asked_for_and_adds_it_up(
        self,
        here: Callable[..., None],
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
    ) -> None:
        here(
            ("cold", Link(), compared(subjects.cold())),
            ("other", Link(), compared(subjects.cold())),
        )
        first, both = tmp_path / "first.json", tmp_path / "both.json"
        asked = ["bench", "install", "--set", "one", "--row", "cold", "--rounds", "1"]
        assert main([*asked, "--json", str(first)]) == 0
        page = tmp_path / "page.html"
        add = ["--add", str(first), "--json", str(both), "--report", str(page)]
        assert main([*asked, *add]) == 0
        (case,) = json.loads(both.read_text())["cases"]
        assert len(case["ours"]) == len(case["theirs"]) == 2
        assert "cold of 2" in page.read_text()
        capsys.readouterr()
        assert main(["bench", "install", "--rounds", "0", "--add", str(both)]) == 0
        assert "| cold of 2; HTTP/1.1, no limit |" in capsys.readouterr().out

    def test_other_engines_have_no_sets(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert main(["bench", "load", "--set", "one"]) == 1
        assert "Leave out --set" in capsys.readouterr().err
