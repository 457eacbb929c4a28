from __future__ import annotations

import os
from pathlib import Path

from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.snapshot import elf


def test_the_build_id_of_a_library_of_this_process() -> None:
    mapped = {line.split()[-1] for line in Path("/proc/self/maps").read_text().splitlines()}
    (libc,) = [path for path in mapped if Path(path).name == "libc.so.6"]
    found = elf.build_id(libc)
    assert found
    assert len(found) == 40
    assert bytes.fromhex(found) in Path(libc).read_bytes()[:8192]


def test_what_has_none(tmp_path: Path) -> None:
    assert elf.build_id(__file__) is None
    assert elf.build_id(tmp_path) is None
    assert elf.build_id(tmp_path / "none") is None


@given(st.binary(max_size=300))
def test_any_bytes_are_read_without_harm(data: bytes) -> None:
    opened = os.memfd_create("zerostart-test")
    try:
        os.write(opened, b"\x7fELF\x02\x01" + data)
        elf.build_id(f"/proc/self/fd/{opened}")
    finally:
        os.close(opened)
