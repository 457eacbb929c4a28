from __future__ import annotations

import io
import struct
import zipfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.install.wheels import LINK, Entry, members, noise, pack
from zerostart_jupyter.core.errors import WheelRejected
from zerostart_jupyter.install.archive import Member, find_end, read_directory
from zerostart_jupyter.install.inflate import Run, split

GOOD = members("pkg", "1.0", {"pkg/__init__.py": b"x = 1\n" * 50, "pkg/data.bin": noise(3000)})


def read(data: bytes) -> list[Member]:
    end = find_end(data, len(data), "pkg.whl")
    return read_directory(data[end.start : end.stop], end, "pkg.whl")


def unpack(data: bytes, folder: Path, step: int = 1 << 20) -> dict[str, bytes]:
    """Everything in a zip, through runs that are fed `step` bytes at a time."""
    found = read(data)
    names = {member.name: str(at) for at, member in enumerate(found)}
    folder.mkdir(exist_ok=True)
    view = memoryview(data)
    for group in split(found):
        run = Run(
            group,
            lambda member: None if member.directory else str(folder / names[member.name]),
            "pkg.whl",
        )
        try:
            for at in range(run.start, run.stop, step):
                run.feed(view[at : min(at + step, run.stop)])
            assert run.done
        finally:
            run.close()
    return {
        member.name: (folder / names[member.name]).read_bytes()
        for member in found
        if not member.directory
    }


@pytest.mark.parametrize("step", [1, 7, 64, 1 << 20])
def test_members_come_out_whatever_the_pieces(tmp_path: Path, step: int) -> None:
    entries = [
        Entry("empty", b""),
        Entry("stored", noise(500), method=0),
        Entry("folder/", b"", method=0, mode=0o040755),
        Entry("folder/described", b"text " * 300, described=True),
        Entry("wide", b"wide " * 100, wide=True),
        Entry("é", b"utf-8"),
    ]
    found = unpack(pack(entries), tmp_path / "out", step)
    assert found == {each.name: each.content for each in entries if not each.name.endswith("/")}


def test_large_members_stream(tmp_path: Path) -> None:
    big = noise(1 << 20, 1) * 6 + bytes(3 << 20)
    data = pack([Entry("a", b"small"), Entry("big", big), Entry("z", b"small")])
    assert unpack(data, tmp_path / "out", 100_000)["big"] == big


def test_execute_bits_are_kept(tmp_path: Path) -> None:
    data = pack([Entry("tool", b"#!", mode=0o100755), Entry("text", b"")])
    unpack(data, tmp_path / "out")
    assert (tmp_path / "out" / "0").stat().st_mode & 0o111
    assert not (tmp_path / "out" / "1").stat().st_mode & 0o111


HOSTILE = {
    "a path above": ([Entry("../evil", b"x")], "leads outside"),
    "an absolute path": ([Entry("/etc/evil", b"x")], "leads outside"),
    "a path through the middle": ([Entry("a/../../evil", b"x")], "leads outside"),
    "a dot": ([Entry("a/./b", b"x")], "leads outside"),
    "a double slash": ([Entry("a//b", b"x")], "leads outside"),
    "a backslash": ([Entry("..\\evil", b"x")], "leads outside"),
    "a drive": ([Entry("C:/evil", b"x")], "leads outside"),
    "a NUL": ([Entry("a\0b", b"x")], "control characters"),
    "a long name": ([Entry("a" * 300, b"x")], "too long"),
    "a symbolic link": ([Entry("link", b"/etc/passwd", mode=LINK)], "symbolic link"),
    "a device": ([Entry("tty", b"", mode=0o020666)], "not a regular file"),
    "twice the same": ([Entry("a", b"1"), Entry("a", b"2")], "twice"),
    "another case": ([Entry("A.py", b"1"), Entry("a.py", b"2")], "is there and"),
    "another unicode form": ([Entry("é", b"1"), Entry("e\u0301", b"2")], "is there and"),
    "file and directory": ([Entry("a", b"1"), Entry("a/b", b"2")], "both a file and a directory"),
    "latin-1": ([Entry("x", b"1", raw=b"\xe9", flags=0)], "not a name in UTF-8"),
    "broken UTF-8": ([Entry("x", b"1", raw=b"\xff\xfe", flags=0x800)], "not a name in UTF-8"),
    "encrypted": ([Entry("a", b"1", flags=1)], "encrypted"),
    "bzip2": ([Entry("a", b"1", method=12)], "method 12"),
    "a second name": (
        [Entry("a", b"1", extra=struct.pack("<2HBI", 0x7075, 9, 1, 0) + b"evil")],
        "second name",
    ),
    "a wrong checksum": ([Entry("a", b"1" * 99, crc=7)], "wrong checksum"),
    "longer than it says": ([Entry("a", b"1" * 99, size=50)], "not as long"),
    "shorter than it says": ([Entry("a", b"1" * 99, size=150)], "99 bytes and not 150"),
    "stored with two sizes": ([Entry("a", b"1" * 9, method=0, size=8)], "two sizes"),
    "damaged data": ([Entry("a", b"1" * 99, data=b"\xff" * 40)], "damaged"),
    "a bomb": ([Entry("a", b"1", size=1 << 40, wide=True)], "would inflate"),
    "headers that differ": ([Entry("a", b"1", local={"raw": b"b"})], "two headers"),
    "sizes that differ": ([Entry("a", b"1", local={"size": 5})], "two headers"),
    "bytes between members": ([Entry("a", b"1", gap=b"junk"), Entry("b", b"")], "bytes between"),
    "a directory with content": ([Entry("a/", b"1", mode=0o040755)], "directory with content"),
}


@pytest.mark.parametrize("what", HOSTILE)
def test_hostile_members_are_refused_by_name_and_reason(what: str, tmp_path: Path) -> None:
    entries, reason = HOSTILE[what]
    with pytest.raises(WheelRejected, match=reason) as caught:
        unpack(pack(entries), tmp_path / "out")
    assert str(caught.value).startswith("pkg.whl was refused: ")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (pack(GOOD, prefix=b"#!/bin/sh\n"), "before its first member"),
        (pack(GOOD, suffix=b"junk"), "end record"),
        (pack(GOOD)[:-1], "end record"),
        (pack(GOOD)[:-2] + b"\3\0abc", "end record"),
        (pack([]), "it is empty"),
        (b"", "too short"),
        (b"PK", "too short"),
        (b"<html>not found</html>" * 20, "end record"),
    ],
)
def test_damaged_files_are_refused(data: bytes, reason: str, tmp_path: Path) -> None:
    with pytest.raises(WheelRejected, match=reason):
        unpack(data, tmp_path / "out")


def test_overlapping_members_are_refused(tmp_path: Path) -> None:
    data = bytearray(pack([Entry("a", b"1" * 50, method=0), Entry("b", b"2" * 50, method=0)]))
    second = data.rindex(b"PK\1\2")
    data[second + 42 : second + 46] = struct.pack("<I", 10)  # its record begins inside the first
    with pytest.raises(WheelRejected, match="overlaps"):
        unpack(bytes(data), tmp_path / "out")


def test_a_zip64_end_record_is_read(tmp_path: Path) -> None:
    plain = pack([Entry("a", b"text")])
    end = find_end(plain, len(plain), "x")
    size = end.stop - end.start
    wide = struct.pack(
        "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, end.count, end.count, size, end.start
    )
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, end.stop, 1)
    short = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    data = plain[: end.stop] + wide + locator + short
    assert unpack(data, tmp_path / "out") == {"a": b"text"}
    lying = plain[: end.stop] + wide + locator + short[:10] + struct.pack("<H", 9) + short[12:]
    with pytest.raises(WheelRejected, match="contradict"):
        read(lying)


def test_more_members_than_16_bits_can_count() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for number in range(66_000):
            archive.writestr(zipfile.ZipInfo(f"a/{number}"), b"")
    data = file.getvalue()
    found = read(data)
    assert len(found) == 66_000
    for group in split(found):
        run = Run(group, lambda _: None, "pkg.whl")
        run.feed(memoryview(data)[run.start : run.stop])
        assert run.done


@pytest.mark.parametrize(("count", "size"), [(3_000_000, 46 * 3_000_000), (1, 1 << 30)])
def test_a_directory_that_would_fill_the_memory_is_not_read(count: int, size: int) -> None:
    """Told from the end record, before any of it is fetched."""
    start, stop = 1 << 33, (1 << 33) + size
    wide = struct.pack("<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, count, count, size, start)
    locator = struct.pack("<4sIQI", b"PK\6\7", 0, stop, 1)
    short = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    tail = bytes(200) + wide + locator + short
    with pytest.raises(WheelRejected, match="directory is too large"):
        find_end(tail, stop + len(tail) - 200, "pkg.whl")


@pytest.mark.parametrize(
    ("packed", "reason"), [(31, "bytes between 'a'"), (1 << 50, "10 bytes were deflated to")]
)
def test_a_record_of_a_pebibyte_is_refused_before_anything_is_planned(
    packed: int, reason: str
) -> None:
    """A server may claim any total, and a directory at its end that goes with it."""
    plain = pack([Entry("a", b"0123456789", packed=packed, wide=True)])
    directory = plain[plain.index(b"PK\1\2") : -22]
    start = 1 << 50
    if packed == start:
        start += 30 + len("a") + 20  # so that the record fits
    stop = start + len(directory)
    wide = struct.pack(
        "<4sQ2H2I4Q", b"PK\6\6", 44, 45, 45, 0, 0, 1, 1, len(directory), start
    ) + struct.pack("<4sIQI", b"PK\6\7", 0, stop, 1)
    short = struct.pack("<4s4H2IH", b"PK\5\6", 0, 0, 0xFFFF, 0xFFFF, 0xFFFFFFFF, 0xFFFFFFFF, 0)
    tail = directory + wide + short
    end = find_end(tail, start + len(tail), "pkg.whl")
    with pytest.raises(WheelRejected, match=reason):
        read_directory(directory, end, "pkg.whl")


@given(st.data())
@settings(max_examples=200, deadline=None)
def test_no_change_of_a_byte_is_accepted_unnoticed(data: st.DataObject) -> None:
    """Whatever is done to a wheel, its members come out as they were, or it is refused."""
    import tempfile

    good = pack(GOOD)
    broken = bytearray(good)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(broken) - 1))
        broken[at] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.none(), st.integers(0, len(broken))))
    wanted = {entry.name: entry.content for entry in GOOD}
    with tempfile.TemporaryDirectory() as folder:
        try:
            found = unpack(bytes(broken[:cut]), Path(folder) / "out")
        except WheelRejected:
            return
    # A flipped bit in a name that both headers share names another file; contents never differ.
    assert sorted(found.values()) == sorted(wanted.values())


@given(st.binary(max_size=400))
@settings(max_examples=200, deadline=None)
def test_arbitrary_bytes_are_refused_and_nothing_else(data: bytes) -> None:
    with pytest.raises(WheelRejected):
        read(data)
