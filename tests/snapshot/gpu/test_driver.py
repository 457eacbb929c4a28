from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.gpu_driver import DriverContract
from tests.snapshot.conftest import ROOT
from tests.snapshot.gpu import simulated
from tests.snapshot.gpu.conftest import MACHINE
from zerostart_jupyter.core.errors import GpuFailed
from zerostart_jupyter.snapshot.gpu import finding, steps
from zerostart_jupyter.snapshot.gpu.driver import CudaCheckpoint, CudaCore, State

FIRST, SECOND = MACHINE["devices"]
USE = "from tests.snapshot.gpu import simulated; simulated.use(1 << 30); print(flush=True); input()"


@pytest.fixture
def user(gpu: Path) -> Iterator[int]:
    with subprocess.Popen(
        [sys.executable, "-c", USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        process.stdout.readline()
        yield process.pid
        process.kill()


@pytest.fixture
def stranger() -> Iterator[int]:
    with subprocess.Popen(["sleep", "600"]) as process:
        yield process.pid
        process.kill()


class TestCudaCore(DriverContract):
    @pytest.fixture
    def driver(self, gpu: Path) -> CudaCore:
        return CudaCore()


class TestCudaCheckpoint(DriverContract):
    @pytest.fixture
    def driver(self, gpu: Path) -> CudaCheckpoint:
        return CudaCheckpoint(str(simulated.program(gpu, sys.executable, [str(ROOT)])), 30)


def test_the_program_maps_gpus_as_the_module_does(gpu: Path, user: int) -> None:
    program = simulated.program(gpu, sys.executable, [str(ROOT)])
    for driver in (CudaCore(), CudaCheckpoint(str(program), 30)):
        here = simulated.of(user)["device"]
        there = (SECOND if here == FIRST["uuid"] else FIRST)["uuid"]
        driver.lock(user, 30)
        driver.checkpoint(user)
        driver.restore(user, {here: there})
        driver.unlock(user)
        assert simulated.of(user)["device"] == there


def test_a_program_that_is_none_or_hangs(gpu: Path, tmp_path: Path) -> None:
    with pytest.raises(GpuFailed, match="No such file"):
        CudaCheckpoint(str(tmp_path / "missing"), 1).state(1)
    odd = tmp_path / "odd"
    odd.write_text("#!/bin/sh\necho confused\n")
    odd.chmod(0o700)
    with pytest.raises(GpuFailed, match="it said 'confused"):
        CudaCheckpoint(str(odd), 1).state(1)


def test_the_module_is_preferred_to_the_program(gpu: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(gpu))
    monkeypatch.setattr(finding, "_PLACES", ())
    assert finding.driver(1).name == "cuda.core 1.2.2"
    simulated.program(gpu, sys.executable, [str(ROOT)])
    assert "cuda.core.checkpoint" in finding.capability().reason
    (gpu / "shims/cuda/core/checkpoint.py").unlink()
    assert "cuda-checkpoint" in finding.capability().reason
    for name in ("cuda", "cuda.core", "cuda.core.checkpoint"):
        monkeypatch.delitem(sys.modules, name, raising=False)
    assert finding.driver(1).name == str(gpu / "cuda-checkpoint")
    (gpu / "cuda-checkpoint").unlink()
    assert not finding.capability()
    with pytest.raises(GpuFailed, match="no cuda-checkpoint"):
        finding.driver(1)


@pytest.mark.parametrize("before", ["running", "locked", "checkpointed"])
def test_put_back_comes_from_everywhere(gpu: Path, user: int, before: str) -> None:
    driver = CudaCore()
    if before != "running":
        driver.lock(user, 30)
    if before == "checkpointed":
        driver.checkpoint(user)
    for _ in range(2):
        steps.put_back(driver, [user])
        assert driver.state(user) is State.RUNNING


def test_all_are_locked_or_none(gpu: Path, user: int, stranger: int) -> None:
    driver = CudaCore()
    with pytest.raises(GpuFailed, match=str(stranger)):
        steps.lock(driver, [user, stranger], 30)
    assert driver.state(user) is State.RUNNING
