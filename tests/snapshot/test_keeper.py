"""The process that keeps a kernel's id, with sleeping processes for kernels."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

import zerostart_jupyter
from tests.patience import eventually

KEEPER = Path(zerostart_jupyter.__file__).parent / "snapshot" / "keeper.py"
# starts a kernel in a session of its own, says its id, and becomes its keeper
LAUNCH = f"""
import os, subprocess, sys
made = subprocess.Popen([sys.executable, "-c", sys.argv[2]], start_new_session=True)
print(made.pid, flush=True)
os.execv(sys.executable, [sys.executable, "-I", "-S", {str(KEEPER)!r}, str(made.pid), sys.argv[1]])
"""
SLEEP = "import time; time.sleep(1000)"


class Kept:
    def __init__(self, code: str) -> None:
        reading, self.orders = os.pipe()
        self.keeper = subprocess.Popen(
            [sys.executable, "-c", LAUNCH, str(reading), code],
            pass_fds=[reading],
            stdout=subprocess.PIPE,
            text=True,
        )
        os.close(reading)
        assert self.keeper.stdout is not None
        self.kernel = psutil.Process(int(self.keeper.stdout.readline()))
        eventually(lambda: str(KEEPER) in psutil.Process(self.keeper.pid).cmdline())

    def listens(self) -> bool:
        """Whether the keeper has put its handlers up, as its status says."""
        status = Path(f"/proc/{self.keeper.pid}/status").read_text()
        caught = next(line for line in status.splitlines() if line.startswith("SigCgt"))
        return bool(int(caught.split()[1], 16) >> (signal.SIGCHLD - 1) & 1)


@pytest.fixture
def kept() -> Iterator[Kept]:
    made = Kept(SLEEP)
    eventually(made.listens)
    yield made
    os.close(made.orders)
    if made.keeper.poll() is None:
        made.keeper.kill()
    if made.kernel.is_running():
        made.kernel.kill()
    made.keeper.communicate(timeout=60)


def test_it_ends_with_the_code_of_the_kernel() -> None:
    made = Kept("raise SystemExit(7)")
    assert made.keeper.wait(60) == 7
    made.keeper.communicate()
    os.close(made.orders)


def test_it_ends_by_the_signal_that_ended_the_kernel(kept: Kept) -> None:
    kept.kernel.kill()
    assert kept.keeper.wait(60) == -signal.SIGKILL


def test_signals_go_on_to_the_kernel(kept: Kept) -> None:
    kept.keeper.send_signal(signal.SIGTERM)
    assert kept.keeper.wait(60) == -signal.SIGTERM
    eventually(lambda: not kept.kernel.is_running())


def test_it_turns_to_the_kernel_it_is_told_of(kept: Kept) -> None:
    after = subprocess.Popen([sys.executable, "-c", SLEEP], start_new_session=True)
    os.write(kept.orders, b"%d\n" % after.pid)
    kept.kernel.kill()  # its end is not the end any more
    kept.kernel.wait(60)
    kept.keeper.send_signal(signal.SIGUSR1)
    assert after.wait(60) == -signal.SIGUSR1
    assert kept.keeper.poll() is None
