"""A kernel with GPU memory saved and restored, by real CRIU, on simulated GPUs."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.faulty import killed_while_it_saves
from tests.snapshot.gpu import simulated
from tests.snapshot.gpu.conftest import MACHINE, helpers, stumbling
from tests.snapshot.kernels import Kernel, kernel, ours
from tests.snapshot.test_killed import IN_STATE
from zerostart_jupyter import snapshot
from zerostart_jupyter.snapshot.process import State

pytestmark = pytest.mark.criu

FIRST, SECOND = MACHINE["devices"]
OTHER = FIRST | {"uuid": "GPU-00000009-0000-4000-8000-000000000000"}
THIRD = FIRST | {"uuid": "GPU-0000000a-0000-4000-8000-000000000000"}


@pytest.fixture
def python(with_criu: Path, gpu: Path) -> Iterator[Kernel]:
    """A kernel that holds 3 GiB of the first GPU."""
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 1")
        made.run("from tests.snapshot.gpu import simulated; simulated.use(3 << 30)")
        yield made


def assert_untouched(python: Kernel, private: Path) -> None:
    """The kernel goes on with its GPU, and nothing is left of what was tried."""
    assert python.run("x, simulated.mine()['state']") == "(1, 'running')"
    assert simulated.used(FIRST["uuid"]) == 3 << 30
    assert list((private / "cache" / "snapshots").iterdir()) == []
    eventually(
        lambda: (
            {each.pid for each in ours(private)}
            == {python.pid, *(each.pid for each in helpers(private))}
        )
    )


def publish(name: str) -> None:
    """As the engine does, with NVML and CUDA of the simulated machine on the path."""
    spec = snapshot.publish(name) / "kernel.json"
    body = json.loads(spec.read_text())
    body["env"] = {"PYTHONPATH": os.environ["PYTHONPATH"]}
    spec.write_text(json.dumps(body))


def test_the_kernel_goes_on_with_its_gpu(python: Kernel, gpu: Path) -> None:
    saved = python.run("s = z.snapshot('one'); s.gpu_bytes, s.restored")
    assert saved == f"({3 << 30}, False)"
    assert simulated.calls() == ["lock", "checkpoint", "restore", "unlock"]
    assert python.run("simulated.mine()['state']") == "'running'"
    found = snapshot.show("one")
    assert found.gpu_bytes == 3 << 30
    assert [each["uuid"] for each in found.manifest().gpu["machine"]["devices"]] == [
        FIRST["uuid"],
        SECOND["uuid"],
    ]


def test_a_clone_has_it_back_before_its_first_cell(python: Kernel, gpu: Path) -> None:
    python.run("s = z.snapshot('one')")
    publish("one")
    with kernel("zerostart-one") as clone, kernel("zerostart-one") as second:
        for each in (clone, second):
            assert each.run("s.restored, simulated.mine()['state']") == "(True, 'running')"
        assert python.run("simulated.mine()['state']") == "'running'"
        assert simulated.used(FIRST["uuid"]) == 9 << 30
        assert clone.run("z.snapshot('two').gpu_bytes") == str(3 << 30)
        clone.run("from zerostart_jupyter.snapshot.gpu import parking")
        assert clone.run("parking.park().bytes, simulated.mine()['state']") == (
            f"({3 << 30}, 'checkpointed')"
        )
        assert clone.run("parking.wake().bytes, simulated.mine()['state']") == (
            f"({3 << 30}, 'running')"
        )


def test_restored_in_place(python: Kernel, gpu: Path) -> None:
    python.run("s = z.snapshot('one'); x = 2")
    python.run("x = 3")
    python.client.execute("z.restore('one')")
    eventually(lambda: simulated.calls().count("unlock") == 2)
    assert python.run("x, simulated.mine()['state']") == "(2, 'running')"
    assert simulated.used(FIRST["uuid"]) == 3 << 30


def test_onto_other_gpus_of_the_same_kind(python: Kernel, gpu: Path) -> None:
    python.run("s = z.snapshot('one')")
    publish("one")
    (gpu / "machine.json").write_text(json.dumps(MACHINE | {"devices": [OTHER, THIRD]}))
    with kernel("zerostart-one") as clone:
        assert clone.run("simulated.mine()['device']") == repr(OTHER["uuid"])


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"devices": [FIRST]}, "it needs 2 GPUs, 1 are here"),
        pytest.param(
            *({"devices": [FIRST, SECOND | {"name": "NVIDIA L4", "uuid": "GPU-b"}]}, "NVIDIA L4"),
            marks=pytest.mark.slow,
        ),
        pytest.param(
            *(
                {"driver": "575.51.03"},
                "driver 575.51.03 is older than the 580.95.05 that saved it",
            ),
            marks=pytest.mark.slow,
        ),
        pytest.param(*({"driver": "560.28.03"}, "older than 570"), marks=pytest.mark.slow),
        pytest.param(
            *({"devices": [FIRST, SECOND | {"mig": 1}]}, "MIG mode"), marks=pytest.mark.slow
        ),
        pytest.param(
            *({"absent": True}, "this machine has no NVIDIA driver"), marks=pytest.mark.slow
        ),
    ],
)
def test_what_differs_is_named_before_anything_is_restored(
    python: Kernel, gpu: Path, change: dict[str, object], says: str
) -> None:
    python.run("s = z.snapshot('one')")
    (gpu / "machine.json").write_text(json.dumps(MACHINE | change))
    error = python.attempt("z.restore('one')").error
    assert error.startswith("SnapshotRefused")
    assert says in error
    (gpu / "machine.json").write_text(json.dumps(MACHINE))
    assert python.run("simulated.mine()['state']") == "'running'"


def test_it_may_stay_parked_after_the_save(python: Kernel, gpu: Path) -> None:
    python.run("%load_ext zerostart_jupyter")
    python.run("%zs_snapshot save one --park")
    assert simulated.of(python.pid)["state"] == "checkpointed"
    assert simulated.used(FIRST["uuid"]) == 0
    assert python.run("simulated.mine()['state']") == "'running'"


def test_there_must_be_something_to_park(with_criu: Path, gpu: Path) -> None:
    with kernel() as plain:
        plain.run("import zerostart_jupyter.snapshot as z")
        assert "holds no GPU memory" in plain.attempt("z.snapshot('one', park=True)").error
        assert snapshot.snapshots() == []


@pytest.mark.parametrize(
    ("step", "kind"),
    stumbling(
        ["lock", "checkpoint", "restore", "unlock"],
        quick=[("lock", "fail"), ("checkpoint", "die"), ("restore", "fail")],
    ),
)
def test_any_step_may_stumble(
    python: Kernel, gpu: Path, private: Path, step: str, kind: str
) -> None:
    if kind == "hang":
        python.run("import os; os.environ['ZS_GPU_TIMEOUT'] = '2'")
    simulated.fault(step, kind)
    error = python.attempt("z.snapshot('one')").error
    if step in ("restore", "unlock") and kind != "fail":  # another helper puts it back
        assert error == ""
        assert python.run("x, simulated.mine()['state']") == "(1, 'running')"
        return
    assert error.startswith("GpuFailed")
    if kind == "fail":
        assert f"{step} of process {python.pid} failed" in error
    assert_untouched(python, private)


GPU_STATES = [State.GPU_LOCKED, State.GPU_CHECKPOINTED]


@pytest.mark.parametrize("state", GPU_STATES)
def test_the_helper_is_killed_in_each_state_of_the_gpu(
    python: Kernel, private: Path, state: State
) -> None:
    python.run(IN_STATE.format(state=str(state), victim="helpers[-1]"))
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("SnapshotError"), error
    assert_untouched(python, private)


@pytest.mark.parametrize("state", GPU_STATES)
def test_the_server_is_killed_in_each_state_of_the_gpu(
    with_criu: Path, gpu: Path, state: State
) -> None:
    cell = IN_STATE.format(state=str(state), victim="os.getppid()")
    cell += "from tests.snapshot.gpu import simulated; simulated.use(3 << 30)"
    killed_while_it_saves(cell)
    eventually(lambda: ours(with_criu) == helpers(with_criu))
    assert simulated.used(FIRST["uuid"]) == 0
    for each in snapshot.snapshots():
        assert snapshot.verify(each.name).name == "one"


@pytest.mark.parametrize("step", ["restore", "unlock"])
def test_a_gpu_that_could_not_be_brought_back_is_tried_again_by_the_next_cell(
    python: Kernel, private: Path, step: str
) -> None:
    python.run("%load_ext zerostart_jupyter")
    simulated.fault(step, "always-fail")
    assert python.attempt("z.snapshot('one')").error.startswith("GpuFailed")
    (file,) = private.glob("jupyter_runtime_dir/zerostart/*/parked.json")
    assert json.loads(file.read_text())["parked"]["bytes"] == 3 << 30
    ran = python.attempt("x = 2")
    assert ran.error.startswith("GpuFailed")
    (private / "gpu" / "faults" / step).unlink()
    assert python.run("x, simulated.mine()['state']") == "(1, 'running')"
    assert not file.exists()
    assert_untouched(python, private)


@pytest.mark.parametrize(
    "script",
    [
        "kill -KILL $$",
        pytest.param("exit 1", marks=pytest.mark.slow),
        pytest.param("exec sleep 1000", marks=pytest.mark.slow),
    ],
)
def test_criu_fails_while_the_gpu_is_empty(
    python: Kernel, private: Path, script: str, tmp_path: Path
) -> None:
    broken = tmp_path / "broken-criu"
    broken.write_text(f'#!/bin/bash\nif [ "$1" = dump ]; then {script}; fi\necho Version: 4.2\n')
    broken.chmod(0o700)
    python.run(f"import os; os.environ |= {{'ZS_CRIU': {str(broken)!r}, 'ZS_CRIU_TIMEOUT': '1'}}")
    assert python.attempt("z.snapshot('one')").error.startswith("CriuFailed")
    assert simulated.calls() == ["lock", "checkpoint", "restore", "unlock"]
    assert_untouched(python, private)


def test_a_device_that_stays_open_is_named(python: Kernel, private: Path, gpu: Path) -> None:
    """NVML's, as a file whose path begins as theirs do."""
    python.run(
        "from zerostart_jupyter.snapshot.gpu import steps; import os\n"
        f"steps.DEVICE = {str(gpu / 'nvidia')!r}\n"
        f"opened = open({str(gpu / 'nvidiactl')!r}, 'w')"
    )
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("SnapshotRefused")
    assert "nvmlShutdown" in error
    python.run("opened.close(); os.unlink(opened.name)")
    assert_untouched(python, private)


def test_without_a_driver_to_ask_a_kernel_with_a_gpu_is_refused(
    python: Kernel, private: Path, gpu: Path
) -> None:
    (gpu / "shims" / "cuda" / "core" / "checkpoint.py").unlink()
    python.run(
        "from zerostart_jupyter.snapshot.gpu import steps, finding\n"
        "import importlib; importlib.invalidate_caches(); finding._PLACES = ()\n"
        f"steps.DEVICE = {str(gpu / 'nvidia')!r}\n"
        f"opened = open({str(gpu / 'nvidiactl')!r}, 'w')"
    )
    error = python.attempt("z.snapshot('one')").error
    assert error.startswith("SnapshotRefused")
    assert "Neither cuda-core nor cuda-checkpoint is here" in error
    assert simulated.calls() == []
