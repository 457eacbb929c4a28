"""Portable snapshots of real kernels: saved in one, restored in it, in another, in a fresh one."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.snapshot.kernels import kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot.catalog import Catalog

STATE = """
import random, json as j, threading
import numpy as np
x = 41
a = np.arange(100_000.); b = a[5:10]
lock = threading.Lock()
def add(n): return x + n
class Point:
    def __init__(self, x): self.x = x
p = [Point(1)] * 2
"""


def test_a_session_comes_back_in_a_live_kernel_and_in_a_fresh_one(private: Path) -> None:
    with kernel() as first:
        first.run("import zerostart_jupyter.snapshot as z")
        first.run(STATE)
        first.run("x + 1")
        first.run("s = z.snapshot('one', tier='portable', notebook='a.ipynb')")
        assert first.run("(s.tier, s.omitted)") == "('portable', (('lock', 'it is a lock'),))"
        first.run("x = 1; a[:] = 0; mine = 3; del add")
        shown = first.run("z.restore('one')")
        assert shown.startswith("Restored snapshot 'one'")
        assert "not in it: lock: it is a lock" in shown
        assert first.run("(add(1), a[7], b[2], p[0] is p[1], p[0].x)") == (
            "(42, np.float64(7.0), np.float64(7.0), True, 1)"
        )
        assert first.run("'mine' in globals() or 'lock' in globals()") == "False"
        first.run("x = 100; a[6] = -1")
        assert first.run("(add(1), b[1])") == "(101, np.float64(-1.0))"
    info = snapshot.show("one")
    assert (info.tier, info.notebook, info.reason) == ("portable", "a.ipynb", "it was asked for")
    assert info.kernelspec == "python3"
    assert info.path.stat().st_mode & 0o777 == 0o700
    with kernel(snapshot.publish("one").name) as second:
        ran = second.attempt("(add(1), b[2], j.dumps(1), Out[3], In[3])")
        assert ran.result == "(42, np.float64(7.0), '1', 42, 'x + 1')", ran.error
        assert ran.number == 4
        assert second.run(
            "import zerostart_jupyter.snapshot as z; z.snapshot('two', tier='portable').name"
        )
    assert snapshot.show("two").parent == "one"


def test_a_clone_answers_and_ends(private: Path) -> None:
    with kernel() as first:
        first.run("import zerostart_jupyter.snapshot as z; x = 41")
        first.run("z.snapshot('one', tier='portable')")
        clone = snapshot.clone("one")
        try:
            client = clone.client()
            try:
                reply = client.execute_interactive("assert x == 41", timeout=60)
                assert reply["content"]["status"] == "ok"
            finally:
                client.stop_channels()
        finally:
            clone.shutdown()


def test_one_from_elsewhere_runs_only_after_a_yes(private: Path) -> None:
    with kernel() as first:
        first.run("import zerostart_jupyter.snapshot as z; x = 41")
        first.run("z.snapshot('one', tier='portable')")
        Catalog().amend(snapshot.show("one").id, trusted=False)
        ran = first.attempt("x = 1; z.restore('one')")
        assert "--trust" in ran.error
        assert first.run("x") == "1"
        with pytest.raises(SnapshotRefused, match="imported"):
            snapshot.clone("one")
        first.run("z.restore('one', trust_it=True); ")
        assert first.run("x") == "41"
        assert snapshot.show("one").trusted
