from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import GpuFailed
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
