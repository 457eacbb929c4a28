"""Which file systems are behind a network, by their numbers in statfs(2) and linux/magic.h."""

from __future__ import annotations

import ctypes
import re
from pathlib import Path

import pytest

from zerostart_jupyter.load import filesystem

HEADER = Path("/usr/include/linux/magic.h")
# 9p, GPFS, Lustre and others are in no such header, or in that of a file system of their own.
FAR = {
    0x6969: "NFS_SUPER_MAGIC",
    0x517B: "SMB_SUPER_MAGIC",
    0xFF534D42: "CIFS_SUPER_MAGIC",
    0xFE534D42: "SMB2_SUPER_MAGIC",
    0x65735546: "FUSE_SUPER_MAGIC",
    0x00C36400: "CEPH_SUPER_MAGIC",
    0x01021997: "V9FS_MAGIC",
    0x5346414F: "AFS_SUPER_MAGIC",
    0x73757245: "CODA_SUPER_MAGIC",
    0x0BD00BD0: "",
    0x47504653: "",
    0x19830326: "",
}
NEAR = {
    0xEF53: "EXT4_SUPER_MAGIC",
    0x9123683E: "BTRFS_SUPER_MAGIC",
    0x58465342: "XFS_SUPER_MAGIC",
    0xF2F52010: "F2FS_SUPER_MAGIC",
    0x794C7630: "OVERLAYFS_SUPER_MAGIC",
    0x01021994: "TMPFS_MAGIC",
    0x2FC12FC1: "",  # ZFS
}


@pytest.fixture
def said(monkeypatch: pytest.MonkeyPatch) -> dict[str, int]:
    """What fstatfs says: f_type, a signed long, with the sign of a 32-bit number carried on."""
    answer = {"type": 0}

    class Library:
        @staticmethod
        def fstatfs(descriptor: int, room: ctypes.Array[ctypes.c_char]) -> int:
            number = answer["type"]
            signed = number - (1 << 32) if number >> 31 else number
            ctypes.memmove(room, signed.to_bytes(8, "little", signed=True), 8)
            return 0

    monkeypatch.setattr(filesystem, "_libc", Library)
    return answer


@pytest.mark.parametrize("number", [*FAR, *NEAR], ids=hex)
def test_is_told_by_its_number(number: int, said: dict[str, int], tmp_path: Path) -> None:
    said["type"] = number
    found = filesystem.of_path(tmp_path)
    assert found.network is (number in FAR)
    assert found.memory is (number == 0x01021994)
    assert found.key.startswith(f"{found.name}-")


@pytest.mark.skipif(not HEADER.exists(), reason="the kernel's headers are not installed")
def test_the_numbers_are_the_kernels() -> None:
    told = dict(re.findall(r"#define\s+(\w+)\s+(0x[0-9a-fA-F]+)", HEADER.read_text()))
    for number, name in {**FAR, **NEAR}.items():
        if name:
            assert int(told[name], 16) == number, name
