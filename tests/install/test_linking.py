"""One contract for both ways to link many files: in this process, and in one beside it."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.patience import PATIENCE, eventually
from zerostart_jupyter.install import linking
from zerostart_jupyter.install.linker import Linker
from zerostart_jupyter.install.linking import Files, Identities

Link = Callable[[Files, Identities | None], int]


@pytest.fixture
def linker() -> Iterator[Linker]:
    made = Linker()
    made.start()
    yield made
    made.close()


@pytest.fixture(params=["here", "beside", "beside, but busy", "beside, but killed"])
def link(request: pytest.FixtureRequest, linker: Linker) -> Iterator[Link]:
    if request.param == "here":
        yield linking.link
    elif request.param == "beside, but busy":
        with linker._lock:
            yield linker.link
    else:
        assert linker._process is not None
        if request.param == "beside, but killed":
            linker._process.kill()
        yield linker.link


def files(folder: Path, count: int) -> tuple[list[tuple[str, str]], list[tuple[int, int]]]:
    pairs, identities = [], []
    for number in range(count):
        source = folder / f"source-{number}"
        source.write_bytes(b"x" * number)
        status = source.stat()
        pairs.append((str(source), str(folder / "to" / f"ä{number % 3}" / f"file-{number}")))
        identities.append((status.st_size, status.st_mtime_ns))
    return pairs, identities


def there(pairs: list[tuple[str, str]]) -> list[bool]:
    return [os.path.exists(path) and os.path.samefile(source, path) for source, path in pairs]


class TestLinking:
    def test_links_all_and_makes_directories(self, link: Link, tmp_path: Path) -> None:
        pairs, identities = files(tmp_path, 20)
        assert link(pairs[:10], identities[:10]) == 10
        assert link(pairs[10:], None) == 10
        assert there(pairs) == [True] * 20

    def test_stops_before_what_is_not_what_it_was(self, link: Link, tmp_path: Path) -> None:
        pairs, identities = files(tmp_path, 8)
        Path(pairs[5][0]).write_bytes(b"edited")
        assert link(pairs, identities) == 5
        assert there(pairs) == [True] * 5 + [False] * 3

    def test_stops_before_what_is_gone(self, link: Link, tmp_path: Path) -> None:
        pairs, identities = files(tmp_path, 8)
        os.unlink(pairs[2][0])
        assert link(pairs, identities) == 2
        assert link(pairs[2:], None) == 0

    def test_replaces_nothing(self, link: Link, tmp_path: Path) -> None:
        pairs, identities = files(tmp_path, 8)
        taken = Path(pairs[3][1])
        taken.parent.mkdir(parents=True)
        taken.write_text("of another")
        assert link(pairs, identities) == 3
        assert taken.read_text() == "of another"

    def test_nothing_is_nothing(self, link: Link) -> None:
        assert link([], []) == 0


def test_who_finds_it_busy_does_not_wait(linker: Linker, tmp_path: Path) -> None:
    pairs, identities = files(tmp_path, 4)
    with linker._lock:
        thread = threading.Thread(target=linker.link, args=(pairs, identities))
        thread.start()
        thread.join(PATIENCE)
        assert not thread.is_alive()
    assert there(pairs) == [True] * 4


def test_a_closed_one_is_gone_and_its_work_is_done_here(linker: Linker, tmp_path: Path) -> None:
    pairs, identities = files(tmp_path, 4)
    process = linker._process
    assert process is not None
    linker.close()
    linker.close()
    eventually(lambda: not Path(f"/proc/{process.pid}").exists())
    assert linker.link(pairs, identities) == 4


def test_one_that_cannot_be_started_is_done_without(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("sys.executable", str(tmp_path / "no-python"))
    without = Linker()
    without.start()
    pairs, identities = files(tmp_path, 4)
    assert without.link(pairs, identities) == 4
    without.close()


def test_it_imports_next_to_nothing() -> None:
    """It is started in the hope that it begins to link at once."""
    code = f"""
import sys
exec(compile(open({linking.__file__!r}).read(), "linking", "exec"), {{"__name__": "linking"}})
print(*sys.modules)
"""
    ran = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code],
        capture_output=True,
        text=True,
        check=True,
    )
    assert not {"collections", "typing", "re", "json", "pathlib"} & set(ran.stdout.split())
