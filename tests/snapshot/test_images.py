from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Sequence
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot.images import ImageFile, bound, files, loosen

MAGICS = struct.pack("<II", 0x54564319, 0x56303138)


def varint(value: int) -> bytes:
    out = b""
    while value > 0x7F:
        out, value = out + bytes([value & 0x7F | 0x80]), value >> 7
    return out + bytes([value])


def number(field: int, value: int) -> bytes:
    return varint(field << 3) + varint(value)


def block(field: int, value: bytes) -> bytes:
    return varint(field << 3 | 2) + varint(len(value)) + value


def regular(path: str, flags: int, size: int | None, *, library: bool = False) -> bytes:
    """A file_entry of a regular file, as CRIU 4.2.1 writes it."""
    body = number(1, 7) + number(2, flags) + number(3, 42) + block(5, number(1, 0))
    body += block(6, path.encode())
    if size is not None:
        body += number(8, size)
    body += number(10, 0o100644)
    body += b"".join(number(11, word) for word in (1, 2)) if library else b""
    return number(1, 1) + number(2, 7) + block(3, body)


def write(directory: Path, entries: Sequence[bytes]) -> None:
    framed = b"".join(struct.pack("<I", len(entry)) + entry for entry in entries)
    (directory / "files.img").write_bytes(MAGICS + framed)


def test_files_are_named_with_what_is_checked(tmp_path: Path) -> None:
    pipe = number(1, 2) + number(2, 9) + block(18, number(1, 9))
    write(
        tmp_path,
        [
            regular("/usr/lib/libc.so", os.O_RDONLY, 300, library=True),
            pipe,
            regular("/var/log/a", os.O_WRONLY | os.O_APPEND, None),
            regular("/data.sqlite", os.O_RDWR, 1 << 40),
        ],
    )
    assert files(tmp_path) == [
        ImageFile("/usr/lib/libc.so", 300, writable=False, library=True),
        ImageFile("/var/log/a", None, writable=True, library=False),
        ImageFile("/data.sqlite", 1 << 40, writable=True, library=False),
    ]


def test_what_is_written_to_may_grow_and_what_was_inherited_is_given_up(tmp_path: Path) -> None:
    kept = regular("/lib/x.so", os.O_RDONLY, 300, library=True)
    pipe = number(1, 2) + number(2, 9) + block(18, number(1, 9))
    write(
        tmp_path,
        [
            kept,
            regular("/server.log", os.O_WRONLY, 10),
            pipe,
            regular("/data.sqlite", os.O_RDWR, 4096),
        ],
    )
    loosen(tmp_path, ["/server.log"])

    after = (tmp_path / "files.img").read_bytes()
    assert kept in after
    assert pipe in after
    assert [(each.path, each.size) for each in files(tmp_path)] == [
        ("/lib/x.so", 300),
        ("/dev/null", None),
        ("/data.sqlite", None),
    ]
    assert (tmp_path / "files.img").stat().st_mode & 0o777 == 0o600


@given(
    st.lists(
        st.tuples(
            st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
            st.sampled_from([os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_APPEND]),
            st.none() | st.integers(0, (1 << 63) - 1),
        )
    )
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_loosening_changes_nothing_else(
    tmp_path: Path, described: list[tuple[str, int, int | None]]
) -> None:
    write(tmp_path, [regular(*each) for each in described])
    loosen(tmp_path, [])
    assert files(tmp_path) == [
        ImageFile(path, None if flags != os.O_RDONLY else size, flags != os.O_RDONLY, False)
        for path, flags, size in described
    ]


@given(st.binary(max_size=200), st.booleans())
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_damage_is_refused_or_understood_and_nothing_else(
    tmp_path: Path, content: bytes, framed: bool
) -> None:
    framing = MAGICS + struct.pack("<I", len(content)) if framed else b""
    (tmp_path / "files.img").write_bytes(framing + content)
    with contextlib.suppress(SnapshotCorrupt):
        files(tmp_path)


def test_a_missing_image_is_damage(tmp_path: Path) -> None:
    with pytest.raises(SnapshotCorrupt, match="cannot be read"):
        files(tmp_path)


# What CRIU 4.2 writes of a socket that listens at a name that is no path, shortened.
ABSTRACT = (
    b"\x08k\x10\xbe\x864\x18\x01 \n(\x020\x008\x80\x01@\x00"
    b"J\n\x08\x00\x10\x00\x18\x00 \x00(\x00Z\x13\x00zs-matrix-7e00c3c0\x80\x01\x02"
)


def test_where_programs_listen_is_known(tmp_path: Path) -> None:
    connected = ABSTRACT.replace(b" \n(", b" \x01(")
    by_path = ABSTRACT.replace(b"\x00zs", b"/zs")
    write(
        tmp_path,
        [number(1, 4) + number(2, 1) + block(16, each) for each in (ABSTRACT, connected, by_path)],
    )
    assert bound(tmp_path) == [("unix", "@zs-matrix-7e00c3c0", 0)]
