from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from zerostart_jupyter.bench.install import memory, turns
from zerostart_jupyter.bench.install.servers import Index
from zerostart_jupyter.bench.install.turns import Failed, Sample, Subject, Turn, python, take_turns

INDEX = Index("http://127.0.0.1:1/simple", {"SSL_CERT_FILE": "ca.pem"})


def at(folder: Path) -> Turn:
    return Turn(INDEX, ("thing",), folder)


def quiet(text: str) -> None:
    pass


class TestTurn:
    def test_knows_nothing_of_this_machines_settings(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("UV_INDEX_URL", "http://127.0.0.1:2/simple")
        monkeypatch.setenv("ZS_CHUNK_MB", "1")
        monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:3")
        monkeypatch.setenv("PYTHONPATH", "relative")
        environ = at(tmp_path).environ
        assert not {"UV_INDEX_URL", "ZS_CHUNK_MB", "HTTPS_PROXY"} & set(environ)
        assert environ["SSL_CERT_FILE"] == "ca.pem"
        assert environ["PYTHONPATH"] == str(Path.cwd() / "relative"), "found from elsewhere too"
        assert Path(environ["UV_CACHE_DIR"]).parent == tmp_path
        assert Path(environ["ZEROSTART_CACHE"]).parent == tmp_path

    def test_what_it_takes_is_measured(self, tmp_path: Path) -> None:
        inner = "from time import process_time as spent\nwhile spent() < 0.2: pass"
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
        found = at(tmp_path).timed(python(code))
        assert found.seconds > 0.2
        assert found.cpu > 0.19, "a child's child counts"

    def test_a_failure_says_the_last_line(self, tmp_path: Path) -> None:
        with pytest.raises(Failed, match=r"^it broke$"):
            at(tmp_path).run(python("import sys; sys.exit('first\\nit broke\\n')"))
        with pytest.raises(Failed, match="nothing"):
            at(tmp_path).run(python("raise SystemExit(3)"))

    def test_nothing_is_waited_for_without_end(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(turns, "PATIENCE", 0.2)
        with pytest.raises(Failed, match="not done"):
            at(tmp_path).run(python("import threading; threading.Event().wait()"))


class TestTakeTurns:
    def test_everybody_has_a_turn_in_each_round_and_an_empty_place(self, tmp_path: Path) -> None:
        order: list[str] = []

        def subject(name: str) -> Subject:
            def measure(turn: Turn) -> Sample:
                assert list(turn.scratch.iterdir()) == []
                assert turn.scratch.parent == tmp_path
                (turn.scratch / "left").write_text("")
                order.append(name)
                return Sample(float(len(order)), 0.5)

            return Subject(measure)

        found = take_turns({name: subject(name) for name in "abc"}, 4, tmp_path, at, quiet)
        assert all(set(order[at_ : at_ + 3]) == set("abc") for at_ in range(0, 12, 3))
        assert sorted(sum((each.seconds for each in found.values()), ())) == list(range(1, 13))
        assert found["a"].cpu == (0.5,) * 4
        assert list(tmp_path.iterdir()) == []

    def test_what_was_prepared_is_kept_over_the_rounds(self, tmp_path: Path) -> None:
        prepared: list[Path] = []

        def prepare(turn: Turn) -> None:
            (turn.scratch / "store").write_text("full")
            prepared.append(turn.scratch)

        def measure(turn: Turn) -> Sample:
            assert (turn.scratch / "store").read_text() == "full"
            return Sample(1.0)

        found = take_turns({"warm": Subject(measure, prepare)}, 3, tmp_path, at, quiet)
        assert len(prepared) == 1
        assert found["warm"].seconds == (1.0, 1.0, 1.0)
        assert list(tmp_path.iterdir()) == []

    def test_a_failure_is_a_result(self, tmp_path: Path) -> None:
        def measure(turn: Turn) -> Sample:
            raise Failed("reset by peer")

        said: list[str] = []
        well = Subject(lambda turn: Sample(1.0))
        found = take_turns({"bad": Subject(measure), "good": well}, 2, tmp_path, at, said.append)
        assert found["bad"].failures == ["reset by peer"] * 2
        assert found["bad"].seconds == ()
        assert found["good"].seconds == (1.0, 1.0)
        assert sum("reset by peer" in line for line in said) == 2


class TestMemory:
    def test_children_are_seen_and_what_they_once_had(self) -> None:
        inner = "import sys; big = b'x' * (96 << 20); del big; print(flush=True); sys.stdin.read()"
        code = f"import subprocess, sys; subprocess.run([sys.executable, '-c', {inner!r}])"
        with subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            tree = memory._tree(process.pid)
            assert len(tree) == 2
            assert (memory._high_water(process.pid) or 0) > 1 << 20
            assert (memory._high_water(tree[1]) or 0) > 96 << 20
            process.stdin.close()

    def test_of_a_command(self, tmp_path: Path) -> None:
        assert memory.bare(at(tmp_path)) > 1 << 20
        with pytest.raises(Failed, match="ended with 3"):
            memory.peak(at(tmp_path), python("raise SystemExit(3)"))

    def test_of_what_has_ended(self) -> None:
        with subprocess.Popen(["true"]) as process:
            process.wait()
        assert memory._high_water(process.pid) is None
        assert memory._tree(process.pid) == [process.pid]
        assert (memory._high_water(os.getpid()) or 0) > 1 << 20
