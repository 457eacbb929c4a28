"""Weights that lie in files are not in the images, and come back from those files."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.snapshot.gpu import simulated
from tests.snapshot.gpu.test_saving import publish
from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.store import Store

pytestmark = pytest.mark.criu

MIB = 1 << 20
SIZE = 96  # MiB of weights


@pytest.fixture
def checkpoint(private: Path) -> Path:
    generator = torch.Generator().manual_seed(1)
    half = SIZE // 2 * MIB // 4
    path = private / "model.safetensors"
    save_file({name: torch.randn(half, generator=generator) for name in ("a", "b")}, path)
    return path


@pytest.fixture
def python(with_criu: Path, checkpoint: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kernel]:
    """A kernel with torch and the checkpoint mapped as `w`; arrays stay in its images."""
    monkeypatch.setenv("ZS_MAP_MB", "0")
    with kernel() as made:
        made.run(
            "import torch, zerostart_jupyter.snapshot as z; from zerostart_jupyter import load"
        )
        made.run("base = z.snapshot('base').bytes")
        made.run(f"w = load.load({str(checkpoint)!r}, device='cpu', reader='mmap').wait()")
        made.run("sums = {name: w[name].double().sum().item() for name in w}")
        yield made


SUMS = "{name: w[name].double().sum().item() for name in w} == sums"


def test_mapped_weights_are_not_in_the_image(python: Kernel) -> None:
    grown = int(python.run("(s := z.snapshot('one')).bytes - base"))
    assert grown < 16 * MIB
    snapshot.publish("one")
    with kernel("zerostart-one") as clone:
        assert clone.run(f"s.restored, {SUMS}") == "(True, True)"


@pytest.mark.slow
def test_a_tensor_that_changed_is_in_the_image(python: Kernel) -> None:
    python.run("w['a'].mul_(2); sums['a'] *= 2")
    grown = int(python.run("(s := z.snapshot('one')).bytes - base"))
    assert SIZE // 2 * MIB <= grown < (SIZE // 2 + 16) * MIB
    snapshot.publish("one")
    with kernel("zerostart-one") as clone:
        assert clone.run(f"s.restored, {SUMS}") == "(True, True)"


def test_a_file_that_changed_since_is_named(python: Kernel, checkpoint: Path) -> None:
    python.run("s = z.snapshot('one')")
    os.utime(checkpoint)
    error = python.attempt("z.restore('one')").error
    assert error.startswith("SnapshotRefused")
    assert f"{checkpoint} has changed" in error


ON_A_GPU = """
from tests.snapshot.gpu import simulated
from zerostart_jupyter.core.references import references
simulated.use(256 << 20)
gpu = {name: w[name].clone() for name in w}
for name, tensor in gpu.items():
    references().add(name, tensor, w._origins[name], address=torch.Tensor.data_ptr,
                     version=lambda tensor: tensor._version, device="cuda:0")
view, w = gpu["a"][5:9], gpu
"""


@pytest.fixture
def on_gpu(with_criu: Path, gpu: Path, python: Kernel) -> Kernel:
    """The same with copies in torch's own memory, registered as those of a GPU are."""
    python.run(ON_A_GPU)
    return python


def test_weights_of_a_gpu_leave_before_the_dump_and_are_read_again(
    on_gpu: Kernel, private: Path, checkpoint: Path
) -> None:
    grown = int(on_gpu.run("(s := z.snapshot('one')).bytes - base"))
    assert grown < 16 * MIB
    assert simulated.calls() == ["lock", "checkpoint", "restore", "unlock"]
    entry = Store(private / "cache").get("snapshots", snapshot.show("one").id)
    assert entry is not None
    images = snapshot.show("one").manifest().bytes
    assert entry.about["read_bytes"] == images + checkpoint.stat().st_size
    alike = "torch.equal(view, w['a'][5:9]) and view.data_ptr() == w['a'][5:].data_ptr()"
    assert on_gpu.run(f"{SUMS}, {alike}") == "(True, True)"
    publish("one")
    with kernel("zerostart-one") as clone:
        assert clone.run(f"s.restored, {SUMS}, {alike}") == "(True, True, True)"
        assert int(clone.run("z.snapshot('two').bytes - base")) < 16 * MIB


def test_weights_of_a_kernel_that_stays_parked_come_back_with_its_next_cell(
    on_gpu: Kernel, private: Path
) -> None:
    on_gpu.run("%load_ext zerostart_jupyter")
    on_gpu.run("s = z.snapshot('one', park=True)")
    assert on_gpu.run(SUMS) == "True"
    assert not list(private.glob("jupyter_runtime_dir/zerostart/*/parked.json"))


@pytest.mark.slow
def test_a_failed_save_leaves_them_where_they_were(on_gpu: Kernel) -> None:
    simulated.fault("checkpoint", "fail")
    assert on_gpu.attempt("z.snapshot('one')").error.startswith("GpuFailed")
    assert on_gpu.run(SUMS) == "True"


@pytest.mark.slow
def test_weights_of_a_gpu_whose_file_changed_are_refused(on_gpu: Kernel, checkpoint: Path) -> None:
    on_gpu.run("s = z.snapshot('one')")
    with checkpoint.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")
    error = on_gpu.attempt("z.restore('one')").error
    assert error.startswith("SnapshotRefused")
    assert f"{checkpoint} has changed" in error


@pytest.mark.slow
def test_a_restored_kernel_checks_the_digest(
    on_gpu: Kernel, checkpoint: Path, private: Path
) -> None:
    """Bytes that changed while size and times say they did not: it never runs with them."""
    times = checkpoint.stat()
    on_gpu.run("s = z.snapshot('one')")
    with checkpoint.open("r+b") as file:
        file.seek(-5, os.SEEK_END)
        file.write(b"other")
    os.utime(checkpoint, ns=(times.st_atime_ns, times.st_mtime_ns))
    publish("one")
    spec = json.loads((private / "jupyter_data_dir/kernels/zerostart-one/kernel.json").read_text())
    assert "shepherd" in " ".join(spec["argv"])
    with pytest.raises(RuntimeError, match="Kernel died"), kernel("zerostart-one"):
        pass
