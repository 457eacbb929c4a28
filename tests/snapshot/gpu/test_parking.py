"""Park and wake in a real kernel, through the real helper, on simulated GPUs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.gpu import simulated
from tests.snapshot.gpu.conftest import MACHINE, helpers, stumbling
from tests.snapshot.kernels import Kernel

UUID = MACHINE["devices"][0]["uuid"]


def test_parking_frees_the_gpu_and_the_next_cell_wakes_it(parkable: Kernel, gpu: Path) -> None:
    assert simulated.used(UUID) == 3 << 30
    said = parkable.run("%zs_snapshot park")
    assert said.startswith("Parked: 3.00 GiB of GPU memory are free")
    assert simulated.used(UUID) == 0
    assert simulated.of(parkable.pid)["state"] == "checkpointed"

    assert parkable.run("simulated.mine()['state']") == "'running'"
    assert simulated.used(UUID) == 3 << 30
    assert simulated.calls() == ["lock", "checkpoint", "restore", "unlock"]


def test_it_is_visible_while_it_is_parked(parkable: Kernel, private: Path) -> None:
    parkable.run("%zs_snapshot park")
    (file,) = private.glob("jupyter_runtime_dir/zerostart/*/parked.json")
    body = json.loads(file.read_text())
    assert body["process"]["pid"] == parkable.pid
    assert body["parked"]["bytes"] == 3 << 30
    parkable.run("1")
    assert not file.exists()


def test_cells_that_leave_the_gpu_alone_leave_it_parked(parkable: Kernel, gpu: Path) -> None:
    parkable.run("%zs_snapshot park")
    parkable.run("%zs_snapshot list")
    assert simulated.of(parkable.pid)["state"] == "checkpointed"
    assert parkable.run("%zs_snapshot wake").startswith("Awake: 3.00 GiB are on the GPU again")
    assert parkable.run("%zs_snapshot wake") == "This kernel is awake."


def test_one_helper_serves_all(parkable: Kernel, private: Path) -> None:
    parkable.run("%zs_snapshot park")
    (first,) = helpers(private)
    parkable.run("%zs_snapshot wake")
    parkable.run("%zs_snapshot park")
    assert helpers(private) == [first]


def test_a_kernel_without_a_gpu_has_nothing_to_park(parkable: Kernel, gpu: Path) -> None:
    (gpu / "libcuda.so.1").unlink()
    for path in (gpu / "processes").iterdir():
        path.unlink()
    assert "holds no GPU memory" in parkable.attempt("%zs_snapshot park").error


@pytest.mark.parametrize(
    ("step", "kind"),
    stumbling(["state", "lock", "checkpoint"], quick=[("lock", "die"), ("checkpoint", "fail")]),
)
def test_a_driver_that_stumbles_leaves_the_kernel_as_it_was(
    parkable: Kernel, gpu: Path, step: str, kind: str
) -> None:
    parkable.run("import os; os.environ['ZS_GPU_TIMEOUT'] = '2'" if kind == "hang" else "1")
    simulated.fault(step, kind)
    error = parkable.attempt("%zs_snapshot park").error
    if (step, kind) == ("state", "fail"):  # a process the driver does not know
        assert "holds no GPU memory" in error
    else:
        assert error.startswith("GpuFailed")
    assert simulated.of(parkable.pid)["state"] == "running"
    parkable.run("os.environ['ZS_GPU_TIMEOUT'] = '60'" if kind == "hang" else "1")
    assert parkable.run("%zs_snapshot park").startswith("Parked: 3.00 GiB")


@pytest.mark.parametrize("step", ["restore", "unlock"])
def test_a_kernel_that_cannot_be_woken_runs_no_cell_until_it_can(
    parkable: Kernel, gpu: Path, step: str
) -> None:
    parkable.run("done = 0")
    parkable.run("%zs_snapshot park")
    simulated.fault(step, "fail")
    ran = parkable.attempt("done = 1")
    assert ran.error.startswith("GpuFailed")
    assert step in ran.error
    assert parkable.run("done, simulated.mine()['state']") == "(0, 'running')"


def test_a_helper_that_was_killed_is_started_again(parkable: Kernel, private: Path) -> None:
    parkable.run("%zs_snapshot park")
    (helper,) = helpers(private)
    helper.kill()
    eventually(lambda: not helpers(private))
    assert parkable.run("simulated.mine()['state']") == "'running'"


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"driver": "565.57.01"}, "driver 565.57.01 is older than 570"),
        pytest.param(
            {"devices": [MACHINE["devices"][0] | {"mig": 1}]}, "MIG mode", marks=pytest.mark.slow
        ),
        pytest.param(
            {"devices": [MACHINE["devices"][0] | {"mps": 1}]}, "MPS", marks=pytest.mark.slow
        ),
    ],
)
def test_what_the_driver_does_not_support_is_named(
    parkable: Kernel, gpu: Path, change: dict[str, object], says: str
) -> None:
    (gpu / "machine.json").write_text(json.dumps(MACHINE | change))
    error = parkable.attempt("%zs_snapshot park").error
    assert error.startswith("SnapshotRefused")
    assert says in error
    assert simulated.calls() == []


def test_the_host_must_have_room(parkable: Kernel, gpu: Path) -> None:
    parkable.run("simulated.use(1 << 50)")
    error = parkable.attempt("%zs_snapshot park").error
    assert "Parking needs 1048576.00 GiB of host memory" in error
    assert simulated.calls() == []


@pytest.mark.slow
def test_two_kernels_park_each_for_itself(parkable: Kernel, gpu: Path) -> None:
    from tests.snapshot.kernels import kernel

    with kernel() as other:
        other.run("from tests.snapshot.gpu import simulated; simulated.use(1 << 30, 1)")
        parkable.run("%zs_snapshot park")
        assert simulated.of(other.pid)["state"] == "running"
        assert other.run("simulated.mine()['state']") == "'running'"
        assert simulated.of(parkable.pid)["state"] == "checkpointed"


def test_a_parked_kernel_is_not_forked(parkable: Kernel) -> None:
    parkable.run("from zerostart_jupyter.snapshot import adapter, forkable")
    parkable.run("obstacles = lambda: [*forkable.obstacles(adapter.LiveKernel.current())]")
    assert parkable.run("obstacles()") == "[]"
    assert parkable.run("parking.park(); obstacles()") == "['GPU memory that is parked']"
    assert parkable.run("obstacles()") == "[]"
