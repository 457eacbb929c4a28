"""Round after round of saving a kernel and restoring it in place, nothing is left over."""

from __future__ import annotations

import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, kernel, ours

pytestmark = pytest.mark.criu

MIB = 1 << 20
_ID = re.compile(r"[0-9a-f]{16}")
ROUNDS = [3, pytest.param(100, marks=[pytest.mark.slow, pytest.mark.timeout(1800)])]
STATE = """
import zerostart_jupyter.snapshot as z
import numpy
x, a = 0, numpy.arange(5 << 20)
"""


@dataclass
class Held:
    """What a kernel and all that belongs to it hold; `memory` in bytes (PSS)."""

    processes: Counter[str]
    descriptors: Counter[str]
    listening: int
    namespaces: int
    mounts: int
    files: Counter[str]
    memory: int

    @classmethod
    def now(cls, private: Path) -> Held:
        """All processes and files below a test's directory."""
        family = ours(private)
        roles = {each.pid: _role(each) for each in family}
        return cls(
            processes=Counter(roles.values()),
            descriptors=Counter(
                {roles[each.pid]: len(_lasting_descriptors(each)) for each in family}
            ),
            listening=sum(
                connection.status == psutil.CONN_LISTEN
                for each in family
                for connection in each.net_connections("tcp")
            ),
            namespaces=len({os.readlink(f"/proc/{each.pid}/ns/pid") for each in family}),
            mounts=len(Path("/proc/self/mountinfo").read_text().splitlines()),
            files=Counter(
                _ID.sub("*", str(path.relative_to(private).parent))
                for top in ("cache", "tmp", "jupyter_runtime_dir", "jupyter_data_dir")
                for path in (private / top).rglob("*")
                if not path.is_relative_to(private / "cache" / "tools")
            ),
            memory=sum(each.memory_full_info().pss for each in family),
        )


def _role(process: psutil.Process) -> str:
    words = process.cmdline()
    return next((word for word in words if "zerostart" in word or "ipykernel" in word), words[0])


def _lasting_descriptors(process: psutil.Process) -> list[str]:
    """Without clients' connections, which come and go."""
    folder = Path(f"/proc/{process.pid}/fd")
    connected = sum(each.status != psutil.CONN_LISTEN for each in process.net_connections("tcp"))
    return os.listdir(folder)[connected:]


def _rounds(python: Kernel, count: int) -> None:
    for _ in range(count):
        python.run("x += 1; s = z.snapshot('one', replace=True)")
        expected = python.run("(x, s.restored)")
        assert expected.endswith("False)")
        python.run("x = -1; z.restore('one')")
        assert python.run("(x, s.restored)") == expected.replace("False", "True")


@pytest.mark.parametrize("rounds", ROUNDS)
def test_rounds_of_save_and_restore_leave_nothing(
    with_criu: Path, monkeypatch: pytest.MonkeyPatch, rounds: int
) -> None:
    (with_criu / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(with_criu / "tmp"))
    with kernel() as python:
        python.run(STATE)
        connection, pid = python.connection, python.pid
        _rounds(python, 2)
        before = Held.now(with_criu)

        _rounds(python, rounds)

        eventually(lambda: Held.now(with_criu).processes == before.processes)
        after = Held.now(with_criu)
        assert (python.connection, python.pid) == (connection, pid)
        assert python.manager.is_alive()
        assert after.memory - before.memory < 24 * MIB
        for name in ("processes", "listening", "namespaces", "mounts"):
            assert getattr(after, name) == getattr(before, name), name
        assert after.files == before.files
        grown = after.descriptors - before.descriptors
        assert all(count <= 3 for count in grown.values()), grown
    assert list((with_criu / "tmp").iterdir()) == []
