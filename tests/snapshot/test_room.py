from __future__ import annotations

from pathlib import Path

import pytest

from zerostart_jupyter.snapshot import room

GIB = 1 << 30


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A machine with 8 GiB available and no control groups."""
    (tmp_path / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {8 * GIB >> 10} kB\n")
    for name, path in (("_MEMORY", "meminfo"), ("_GROUP", "cgroup"), ("_GROUPS", "groups")):
        monkeypatch.setattr(room, name, tmp_path / path)
    return tmp_path


def group(machine: Path, folder: str, files: dict[str, str]) -> None:
    (machine / "groups" / folder).mkdir(parents=True, exist_ok=True)
    for name, text in files.items():
        (machine / "groups" / folder / name).write_text(text)


def test_without_control_groups_it_is_what_the_machine_has(machine: Path) -> None:
    assert room.memory() == 8 * GIB


def test_where_nobody_tells_there_is_no_limit(machine: Path) -> None:
    (machine / "meminfo").unlink()
    assert room.memory() == float("inf")
    assert room.disk(machine / "nowhere") == float("inf")


def test_the_narrowest_group_on_the_way_up_counts_and_its_cache_is_free(machine: Path) -> None:
    (machine / "cgroup").write_text("0::/user/kernel\n")
    stat = f"anon {2 * GIB}\nactive_file {GIB // 2}\ninactive_file {GIB // 2}\nshmem 7\n"
    group(machine, "user/kernel", {"memory.max": "max", "memory.current": "5"})
    limits = {"memory.max": str(4 * GIB), "memory.current": str(3 * GIB), "memory.stat": stat}
    group(machine, "user", limits)
    assert room.memory() == 2 * GIB


def test_groups_of_the_first_version_count_too(machine: Path) -> None:
    (machine / "cgroup").write_text("4:cpu,memory:/kernel\n3:pids:/\n0::/\n")
    limits = {"memory.limit_in_bytes": str(2 * GIB), "memory.usage_in_bytes": str(GIB)}
    group(machine, "memory/kernel", limits)
    assert room.memory() == GIB


def test_a_disk_has_some_room(tmp_path: Path) -> None:
    assert 0 < room.disk(tmp_path) < float("inf")
