from __future__ import annotations

import dataclasses
import mmap
import os
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import GpuFailed, SnapshotRefused
from zerostart_jupyter.snapshot.gpu import devices, limits
from zerostart_jupyter.snapshot.gpu.devices import Device, Machine

GIB = 1 << 30
CHIPS = {"NVIDIA H200": 140 * GIB, "NVIDIA L4": 24 * GIB}


def machine(*chips: str, first: int = 0, driver: str = "580.95.05") -> Machine:
    found = (Device(f"GPU-{first + at}", chip, 0, CHIPS[chip]) for at, chip in enumerate(chips))
    return Machine(driver, tuple(found))


chips = st.lists(st.sampled_from(sorted(CHIPS)), min_size=1, max_size=4)


@given(chips, st.randoms())
def test_gpus_of_the_same_kinds_stand_in_in_any_order(names: list[str], random: object) -> None:
    saved, other = machine(*names), list(names)
    random.shuffle(other)  # type: ignore[attr-defined]
    here = machine(*other, first=10)
    assert list(devices.differences(saved, here)) == []
    pairs = devices.mapping(saved, here)
    assert pairs is not None
    assert sorted(pairs) == sorted(each.uuid for each in saved.devices)
    assert sorted(pairs.values()) == sorted(each.uuid for each in here.devices)
    chip = {each.uuid: each.name for each in (*saved.devices, *here.devices)}
    assert all(chip[old] == chip[new] for old, new in pairs.items())


@given(chips)
def test_the_same_gpus_need_no_mapping(names: list[str]) -> None:
    saved = machine(*names)
    turned = dataclasses.replace(saved, devices=saved.devices[::-1])
    assert devices.mapping(saved, turned) is None


@given(chips, chips)
def test_there_is_a_mapping_where_nothing_differs_and_only_there(
    saved: list[str], here: list[str]
) -> None:
    one, other = machine(*saved), machine(*here, first=10)
    if list(devices.differences(one, other)):
        if len(here) >= len(saved):
            with pytest.raises(GpuFailed, match="stand in"):
                devices.mapping(one, other)
    else:
        assert devices.mapping(one, other)


def test_what_is_told_of_a_machine_survives_json(gpu: Path) -> None:
    found = devices.read()
    assert [each.name for each in found.devices] == ["NVIDIA H200"] * 2
    assert Machine.from_json(found.as_json()) == found


def test_doctor_says_all_of_it(gpu: Path) -> None:
    names = [each.name for each in limits.capabilities()]
    assert names == [
        *("gpu: checkpoint", "gpu: permission", "gpu: driver", "gpu: MIG", "gpu: MPS"),
        "snapshot: park",
    ]
    assert all(each.reason and (each or each.remedy) for each in limits.capabilities())


def test_gpu_memory_that_processes_share_is_refused_by_older_drivers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shared = tmp_path / "cuda.shm.0.1"
    shared.write_bytes(bytes(4096))
    monkeypatch.setattr(limits, "_IPC_MAPPED", str(tmp_path / "cuda.shm."))
    older, newer = machine("NVIDIA H200"), machine("NVIDIA H200", driver="610.10")
    assert limits.of_process(os.getpid(), older) == []
    with shared.open("rb") as file:
        mapping = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
    try:
        (found,) = limits.of_process(os.getpid(), older)
        assert (found.name, found.ok) == ("gpu: IPC", False)
        assert f"Process {os.getpid()}" in found.reason
        assert "driver 580.95.05 cannot checkpoint" in found.reason
        assert "610" in found.remedy
        assert limits.of_process(os.getpid(), newer) == []
        with pytest.raises(SnapshotRefused, match="CUDA IPC"):
            limits.demand([found])
    finally:
        mapping.close()


class ManagedMemoryResource:
    """What rmm's is called."""


@pytest.mark.parametrize("library", ["cupy", "rmm"])
@pytest.mark.parametrize("managed", [True, False])
def test_managed_memory_is_refused_by_the_word_of_the_library(
    monkeypatch: pytest.MonkeyPatch, library: str, managed: bool
) -> None:
    def malloc_managed() -> None: ...

    def malloc() -> None: ...

    kind = ManagedMemoryResource if managed else dict
    given = malloc_managed if managed else malloc
    cuda = SimpleNamespace(get_allocator=lambda: given, malloc_managed=malloc_managed)
    stubs = {
        "cupy": ("cupy", {"cuda": cuda}),
        "rmm": ("rmm.mr", {"get_current_device_resource_type": lambda: kind}),
    }
    name, content = stubs[library]
    module = ModuleType(name)
    vars(module).update(content)
    monkeypatch.setitem(sys.modules, name, module)
    found = limits.of_process(os.getpid(), machine("NVIDIA H200"))
    assert [each.name for each in found] == ["gpu: managed memory"] * managed
    assert all(each.reason.startswith(f"{library} allocates") for each in found)
    # of another process nobody here can tell
    assert limits.of_process(os.getppid(), machine("NVIDIA H200")) == []
