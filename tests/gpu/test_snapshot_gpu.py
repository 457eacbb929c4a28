"""What only a GPU can show: park, wake, save and restore of a kernel that holds CUDA memory.

`make test-gpu` runs it; the last test prints the table for docs/benchmarks.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.contracts.gpu_driver import DriverContract
from tests.snapshot.conftest import private, with_criu
from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.capability import Capability
from zerostart_jupyter.snapshot import tiers
from zerostart_jupyter.snapshot.gpu import devices, limits
from zerostart_jupyter.snapshot.gpu.driver import CudaCore

__all__ = ["private", "with_criu"]

pytestmark = pytest.mark.gpu

MIB, GIB = 1 << 20, 1 << 30
SIZE = 2 * GIB
SETUP = f"""
import torch, zerostart_jupyter.snapshot as z
generator = torch.Generator("cuda").manual_seed(7)
x = torch.randn({SIZE // 4}, device="cuda", generator=generator)
stream, event = torch.cuda.Stream(), torch.cuda.Event()
with torch.cuda.stream(stream):
    y = x[:1000] * 2
event.record(stream)
total = x.double().sum().item()
alike = lambda: x.double().sum().item() == total and torch.equal(y, x[:1000] * 2)
"""
_USE = "import torch; x = torch.ones(1 << 28, device='cuda'); torch.cuda.synchronize(); "
_USE += "print(flush=True); input(); assert x.sum().item() == 1 << 28"


def works() -> list[Capability]:
    return [each for each in limits.capabilities() if not each]


@pytest.fixture
def able() -> None:
    """Where the driver cannot do it the tests fail with its reason: nobody asked for less."""
    missing = works()
    assert not missing, "; ".join(f"{each.name}: {each.reason} {each.remedy}" for each in missing)


@pytest.fixture
def dumpable(able: None) -> None:
    process = next(each for each in tiers.capabilities() if each.name == "snapshot: process")
    if not process:
        pytest.skip(f"{process.reason} {process.remedy}")


@pytest.fixture
def cuda(able: None, private: Path) -> Iterator[Kernel]:
    with kernel() as made:
        made.run("%load_ext zerostart_jupyter")
        made.run(SETUP)
        yield made


@pytest.fixture
def saved(dumpable: None, with_criu: Path) -> Iterator[Kernel]:
    with kernel() as made:
        made.run("%load_ext zerostart_jupyter")
        made.run(SETUP)
        made.run("s = z.snapshot('one')")
        yield made


def used() -> int:
    return devices.read().used


class TestCudaCore(DriverContract):
    """The contract that the simulated driver passes, by the real one."""

    @pytest.fixture
    def driver(self, able: None) -> CudaCore:
        return CudaCore()

    @pytest.fixture
    def user(self) -> Iterator[int]:
        with subprocess.Popen(
            [sys.executable, "-c", _USE], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        ) as process:
            assert process.stdout is not None
            assert process.stdin is not None
            process.stdout.readline()
            yield process.pid
            process.stdin.write(b"\n")
            process.stdin.close()
            assert process.wait(60) == 0  # its memory is what it was

    @pytest.fixture
    def stranger(self) -> Iterator[int]:
        with subprocess.Popen(["sleep", "600"]) as process:
            yield process.pid
            process.kill()


def test_parking_frees_what_the_kernel_held(cuda: Kernel) -> None:
    before = used()
    parked = int(cuda.run("z.park().bytes"))
    after = used()
    assert parked >= SIZE
    assert before - after >= SIZE
    assert cuda.run("alike()") == "True"  # the cell woke it
    assert used() - after >= SIZE


def test_parking_many_times_loses_nothing(cuda: Kernel) -> None:
    for _ in range(5):
        cuda.run("%zs_snapshot park")
        assert cuda.run("alike()") == "True"


def test_the_kernel_goes_on_after_a_save(saved: Kernel) -> None:
    assert saved.run("alike()") == "True"
    assert snapshot.show("one").gpu_bytes >= SIZE
    assert saved.run("(x + 1).sum().isfinite().item()") == "True"


def test_two_clones_beside_the_original(saved: Kernel) -> None:
    snapshot.publish("one")
    before = used()
    with kernel("zerostart-one") as first, kernel("zerostart-one") as second:
        for each in (first, second):
            assert each.run("s.restored, alike()") == "(True, True)"
        first.run("x.zero_()")
        assert second.run("alike()") == "True"
        assert used() - before >= 2 * SIZE
    assert saved.run("alike()") == "True"


def test_restored_in_place(saved: Kernel) -> None:
    saved.run("x.zero_()")
    saved.client.execute("z.restore('one')")
    assert saved.run("s.restored, alike()") == "(True, True)"


def test_saved_and_parked(dumpable: None, with_criu: Path) -> None:
    with kernel() as made:
        made.run("%load_ext zerostart_jupyter")
        made.run(SETUP)
        before = used()
        made.run("%zs_snapshot save one --park")
        assert before - used() >= SIZE
        assert made.run("alike()") == "True"


WEIGHTS = """
from safetensors.torch import save_file
from zerostart_jupyter import load
save_file({{"w": torch.randn({count})}}, {path!r})
w = load.load({path!r}, device="cuda:0").wait()
expected = w["w"].double().sum().item()
view = w["w"][5:9]
"""


def test_weights_are_read_again_instead(dumpable: None, with_criu: Path, tmp_path: Path) -> None:
    path = str(tmp_path / "model.safetensors")
    with kernel() as made:
        made.run("import torch, zerostart_jupyter.snapshot as z")
        made.run(WEIGHTS.format(count=SIZE // 4, path=path))
        assert int(made.run("(s := z.snapshot('one')).bytes")) < SIZE
        same = "w['w'].double().sum().item() == expected and view.equal(w['w'][5:9])"
        assert made.run(same) == "True"
        snapshot.publish("one")
        with kernel("zerostart-one") as clone:
            assert clone.run(f"s.restored, {same}") == "(True, True)"


def test_a_table_for_the_benchmarks(cuda: Kernel, private: Path) -> None:
    rows = {"GPU": devices.read().devices[0].name, "driver": devices.read().driver}
    before = used()
    rows["VRAM in use, GiB"] = f"{before / GIB:.2f}"
    began = time.monotonic()
    cuda.run("%zs_snapshot park")
    rows["park, s (the helper's start in it)"] = f"{time.monotonic() - began:.2f}"
    rows["VRAM in use parked, GiB"] = f"{used() / GIB:.2f}"
    began = time.monotonic()
    cuda.run("%zs_snapshot wake")
    rows["wake, s"] = f"{time.monotonic() - began:.2f}"
    began = time.monotonic()
    cuda.run("%zs_snapshot park")
    rows["park again, s"] = f"{time.monotonic() - began:.2f}"
    cuda.run("%zs_snapshot wake")
    rows["VRAM in use awake, GiB"] = f"{used() / GIB:.2f}"
    table = "\n".join(["| what | |", "|---|---|", *(f"| {key} | {rows[key]} |" for key in rows)])
    print(f"\n{table}")
    out = os.environ.get("ZEROSTART_GPU_TABLE")
    if out:
        Path(out).write_text(json.dumps(rows, indent=1))
    assert abs(used() - before) < 256 * MIB
