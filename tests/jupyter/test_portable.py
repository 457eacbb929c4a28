"""`%zs_snapshot` with names instead of processes, typed into a real kernel."""

from __future__ import annotations

from pathlib import Path

from tests.snapshot.conftest import private as private
from tests.snapshot.kernels import kernel


def test_from_one_kernel_to_another_by_way_of_a_file(private: Path) -> None:
    with kernel() as one:
        one.run("%load_ext zerostart")
        one.run(
            "import time; time.sleep(0.3); api_key = 'x'; words = ['a']; file = open('/dev/null')"
        )
        shown = one.run("%zs_snapshot save ready --tier portable")
        assert "portable (it was asked for)" in shown
        assert "not saved: file: it is an open file" in shown
        assert "It holds secrets, so keep it to yourself: api_key." in shown
        assert "secrets" not in one.run("%zs_snapshot save ready --tier portable --replace")
        listed = one.run("%zs_snapshot list")
        assert listed.splitlines()[0].split()[:7] == [
            *("name", "created", "size", "gpu", "tier", "restore", "re-run"),
        ]
        assert "~" in listed
        ran = float(one.run("import zerostart; zerostart.snapshots()[0].kernel_seconds"))
        assert ran > 0.3
        one.run(f"%zs_snapshot export ready {private}/ready.zsnap")
        one.run("%zs_snapshot delete ready")
        one.run(f"%zs_snapshot import {private}/ready.zsnap mine")
        assert "--trust" in one.attempt("%zs_snapshot restore mine").error
        one.run("words.append('b')")
        assert "restored snapshot 'mine'" in one.run("%zs_snapshot restore mine --trust").lower()
        assert one.run("words") == "['a']"
        one.run("%zs_snapshot auto on")
        one.run("words.append('c')")
        one.run("words.append('d')")
        assert "Saved snapshot" in one.run("%zs_snapshot save early --from-undo 1")
        one.run("%zs_snapshot restore early")
        assert one.run("words") == "['a', 'c']"
