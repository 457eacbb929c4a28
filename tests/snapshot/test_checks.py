from __future__ import annotations

import dataclasses
import platform
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import checks
from zerostart_jupyter.snapshot.catalog import SnapshotInfo
from zerostart_jupyter.snapshot.criu import Criu
from zerostart_jupyter.snapshot.manifest import Manifest, Needed
from zerostart_jupyter.snapshot.manifest import needed as needed_of

CRIU = Criu(("criu",), "4.2.1")


@pytest.fixture
def info(tmp_path: Path) -> SnapshotInfo:
    return SnapshotInfo("one", "id", "process", 0, None, 1, 0, None, 0, 0, 0, tmp_path)


@pytest.fixture
def library(tmp_path: Path) -> Path:
    path = tmp_path / "x.so"
    path.write_bytes(b"abc")
    return path


@pytest.fixture
def manifest(library: Path) -> Manifest:
    needed = Needed(str(library), 3, library.stat().st_mtime_ns)
    return Manifest(
        id="id",
        pid=7,
        last_pid=9,
        channel={},
        criu="4.2",
        needed=(needed,),
        cpu=checks.cpu_features(),
    )


def refusal(info: SnapshotInfo, manifest: Manifest) -> str:
    with pytest.raises(SnapshotRefused) as caught:
        checks.before_restore(info, manifest, CRIU)
    return caught.value.message


def test_nothing_differs(info: SnapshotInfo, manifest: Manifest) -> None:
    checks.before_restore(info, manifest, CRIU)


def test_a_file_that_is_gone(info: SnapshotInfo, manifest: Manifest, library: Path) -> None:
    library.unlink()
    assert f"{library} is gone" in refusal(info, manifest)


def test_a_library_that_was_replaced(info: SnapshotInfo, manifest: Manifest, library: Path) -> None:
    library.unlink()
    library.write_bytes(b"xyz")
    assert f"{library} has changed" in refusal(info, manifest)


def test_another_processor(info: SnapshotInfo, manifest: Manifest) -> None:
    other = dataclasses.replace(manifest, machine="pdp11")
    assert f"it was saved on pdp11, this is {platform.machine()}" in refusal(info, other)
    more = dataclasses.replace(manifest, cpu=(*manifest.cpu, "zz_newer"))
    assert "this processor lacks zz_newer" in refusal(info, more)


def test_an_older_criu(info: SnapshotInfo, manifest: Manifest) -> None:
    newer = dataclasses.replace(manifest, criu="4.10")
    assert "CRIU 4.2.1 is older than the 4.10" in refusal(info, newer)


def test_too_little_memory(info: SnapshotInfo, manifest: Manifest) -> None:
    large = dataclasses.replace(manifest, digests={"pages-1.img": (1 << 60, "")})
    assert "it needs 1073741824.00 GiB of memory" in refusal(info, large)


def test_memory_that_is_only_mapped_need_not_be_free(
    info: SnapshotInfo, manifest: Manifest
) -> None:
    mapped = dataclasses.replace(manifest, memory={"/somewhere": (1 << 60, "")})
    checks.before_restore(info, mapped, CRIU)


def test_many_differences_are_counted(info: SnapshotInfo, manifest: Manifest) -> None:
    gone = tuple(Needed(f"/nonexistent/{number}", 1, None) for number in range(9))
    message = refusal(info, dataclasses.replace(manifest, needed=gone))
    assert message.count("is gone") == 3
    assert "and 6 more" in message


def test_a_copy_of_a_library_is_known_by_its_build_id(
    info: SnapshotInfo, manifest: Manifest, tmp_path: Path
) -> None:
    lines = Path("/proc/self/maps").read_text().splitlines()
    original = next(Path(line.split()[-1]) for line in lines if line.endswith("/libc.so.6"))
    copy = tmp_path / "libc.so.6"
    copy.write_bytes(original.read_bytes())
    (needed,) = needed_of([(str(copy), copy.stat().st_size, True)])
    noted = dataclasses.replace(manifest, needed=(needed,))
    copy.unlink()
    copy.write_bytes(original.read_bytes())
    checks.before_restore(info, noted, CRIU)
    data = original.read_bytes()
    copy.write_bytes(data.replace(bytes.fromhex(str(needed.build_id)), b"\1" * 20))
    assert f"{copy} has changed" in refusal(info, noted)
