from __future__ import annotations

import dataclasses
import platform
import socket
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import checks, images, room
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


def refused(info: SnapshotInfo, manifest: Manifest) -> SnapshotRefused:
    with pytest.raises(SnapshotRefused) as caught:
        checks.before_restore(info, manifest, CRIU)
    return caught.value


def refusal(info: SnapshotInfo, manifest: Manifest) -> str:
    return refused(info, manifest).message


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


def test_a_control_group_may_leave_less_memory_than_the_machine(
    info: SnapshotInfo, manifest: Manifest, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = dataclasses.replace(manifest, digests={"pages-1.img": (1 << 20, "")})
    checks.before_restore(info, large, CRIU)
    monkeypatch.setattr(room, "memory", lambda: 1 << 19)
    error = refused(info, large)
    assert "it needs 1.0 MiB of memory, 512 KiB are free" in error.message
    assert "end other kernels" in error.remedy


def test_deleted_files_need_room_where_they_were(
    info: SnapshotInfo, manifest: Manifest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    ghosts = [tmp_path / f"{name}.cr.{name}.ghost" for name in ("a", "1b")]
    monkeypatch.setattr(images, "ghosts", lambda directory: ghosts)
    digests = {"ghost-file-a.img": (5 << 20, ""), "ghost-file-1b.img": (6 << 20, "")}
    deleted = dataclasses.replace(manifest, digests=digests)
    checks.before_restore(info, deleted, CRIU)
    monkeypatch.setattr(room, "disk", lambda folder: 10 << 20)
    error = refused(info, deleted)
    assert f"it needs 11.0 MiB of room in {tmp_path}, 10.0 MiB are free" in error.message
    assert error.remedy == "Delete what you no longer need there."


def test_each_difference_has_its_own_remedy(
    info: SnapshotInfo, manifest: Manifest, library: Path
) -> None:
    library.unlink()
    error = refused(info, dataclasses.replace(manifest, criu="4.10"))
    assert error.remedy == (
        "Install CRIU 4.10 or newer; put it back, or re-run the notebook and save it again."
    )
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = ("tcp", "127.0.0.1", server.getsockname()[1], 0)
        taken = dataclasses.replace(manifest, needed=(), places=(place,))
        assert refused(info, taken).remedy == "End what has it."


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
