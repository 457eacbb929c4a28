"""A wheel that comes in one piece is taken and refused exactly as one that has ranges."""

from __future__ import annotations

import errno
import re
import shutil
import struct
import tempfile
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.install.hostile import Case
from tests.install.hostile_archives import ARCHIVES
from tests.install.hostile_contents import CONTENTS, VALID
from tests.install.straight import locked
from tests.install.test_archive import GOOD, unpack
from tests.install.test_hostile import everything
from tests.install.wheels import Entry, Wheel, members, noise, pack
from zerostart_jupyter.core.errors import DigestMismatch, WheelRejected
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import stream as stream_module
from zerostart_jupyter.install.archive import End, find_end, read_directory
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.intake import Intake
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.segments import Buffers
from zerostart_jupyter.install.source import NoRanges, Report, Tail
from zerostart_jupyter.install.stream import Stream, Unstreamable
from zerostart_jupyter.install.unpack import StoredWheel

HOSTILE = {**ARCHIVES, **CONTENTS}


class OnePiece:
    """A wheel without ranges, `step` bytes at a time; `begun` counts how often it was asked for."""

    def __init__(self, data: bytes, step: int = 1 << 20) -> None:
        self._data = memoryview(data)
        self._step = step
        self.begun = 0

    def tail(self, count: int) -> Tail:
        raise NoRanges(self)

    def read(self, start: int, into: memoryview, report: Report) -> None:
        raise AssertionError("nothing is left to be read")

    def spool(self, write: Report) -> int:
        self.begun += 1
        for at in range(0, len(self._data), self._step):
            write(at, self._data[at : at + self._step])
        return len(self._data)


def take(store: Store, wheel: Wheel, source: OnePiece, progress: list[int]) -> StoredWheel:
    intake = Intake(store, locked(wheel), source, 1 << 20, progress.append, Buffers(1 << 20))
    try:
        intake.open()
        assert intake.assembly is not None
        assert intake.last is not None
        arriving = [*((each, intake.fetch(each)) for each in intake.segments), intake.last]
        for segment, data in arriving:
            for consumer in intake.assembly.arrive(segment, data):
                for piece, part in intake.assembly.take(consumer):
                    consumer.feed(piece)
                    intake.assembly.fed(consumer, piece, part)
        assert intake.assembly.open == 0
        return intake.close()
    finally:
        intake.abandon(keep=False)


def install(store: Store, wheel: Wheel, root: Path, step: int = 1 << 20) -> Environment:
    found = take(store, wheel, OnePiece(wheel.data, step), [])
    environment = Environment(root)
    environment.prepare()
    environment.add(locked(wheel), found, 0)
    environment.mark(locked(wheel))
    return environment


@pytest.mark.parametrize("what", HOSTILE)
def test_refused(what: str, tmp_path: Path) -> None:
    case = HOSTILE[what]
    store = Store(tmp_path / "cache")
    before = everything(tmp_path)
    with pytest.raises(WheelRejected) as caught:
        install(store, case.wheel, tmp_path / "environment")
    assert re.match(re.escape(case.wheel.filename) + " was refused: .", caught.value.message)
    assert str(caught.value).isprintable()
    left = {name for name in everything(tmp_path) - before if not name.startswith("cache/locks/")}
    assert left == set()
    assert not Path("/tmp/evil").exists()


@pytest.mark.parametrize("step", [1 << 20, 61])
@pytest.mark.parametrize("what", VALID)
def test_taken(what: str, step: int, tmp_path: Path) -> None:
    case: Case = VALID[what]
    found = install(Store(tmp_path / "cache"), case.wheel, tmp_path / "environment", step)
    assert (found.site / "zs_bad" / "__init__.py").read_bytes().startswith(b"NAME")


def streamed(data: bytes, folder: Path, steps: list[int]) -> dict[str, bytes]:
    """Everything in a zip, as it is unpacked from its first byte on."""
    folder.mkdir(exist_ok=True)
    stream = Stream(folder, "pkg.whl")
    try:
        at = count = 0
        while at < len(data):
            step = steps[count % len(steps)]
            stream.feed(memoryview(data)[at : at + step])
            at, count = at + step, count + 1
        found = stream.finish()[1]
    finally:
        stream.close()
    return {
        each.name: stream.file(each).read_bytes() for each in found if not each.name.endswith("/")
    }


ODD = [
    Entry("empty", b""),
    Entry("stored", noise(500), method=0),
    Entry("folder/", b"", method=0, mode=0o040755),
    Entry("folder/described", b"text " * 300, described=True),
    Entry("nothing", b"", described=True),
    Entry("wide", b"wide " * 100, wide=True),
    Entry("é", b"utf-8"),
]


@settings(max_examples=150, deadline=None)
@given(
    st.sampled_from([pack(GOOD), pack(ODD)]),
    st.lists(st.tuples(st.integers(0, 1 << 20), st.integers(0, 255)), max_size=3),
    st.lists(st.integers(1, 400), min_size=1, max_size=5),
)
def test_the_verdict_is_that_of_ranges(
    data: bytes, changes: list[tuple[int, int]], steps: list[int]
) -> None:
    changed = bytearray(data)
    for at, value in changes:
        changed[at % len(changed)] = value
    with tempfile.TemporaryDirectory() as scratch:
        try:
            expected: dict[str, bytes] | None = unpack(bytes(changed), Path(scratch) / "ranges")
        except WheelRejected:
            expected = None
        try:
            found: dict[str, bytes] | None = streamed(bytes(changed), Path(scratch) / "one", steps)
        except WheelRejected:
            found = None
        except Unstreamable:  # the directory decides, as it does with ranges
            return
        assert found == expected


@pytest.mark.parametrize("form", ["<3I", "<I2Q"])
@pytest.mark.parametrize("signature", [b"", b"PK\7\x08"])
def test_every_form_of_descriptor(form: str, signature: bytes, tmp_path: Path) -> None:
    content = b"text " * 300
    packer = zlib.compressobj(6, zlib.DEFLATED, -15)
    packed = packer.compress(content) + packer.flush()
    descriptor = signature + struct.pack(form, zlib.crc32(content), len(packed), len(content))
    plain = pack([Entry("a", content, described=True), Entry("b", b"after")])
    data = with_descriptor(plain, len("a") + 30 + len(packed), descriptor)
    for number, steps in enumerate(([1], [1 << 20])):
        expected = unpack(data, tmp_path / f"ranges{number}")
        assert streamed(data, tmp_path / f"one{number}", steps) == expected
        assert expected["a"] == content


def with_descriptor(plain: bytes, at: int, descriptor: bytes) -> bytes:
    """The same zip with another descriptor in the place of the 16 bytes at `at`."""
    shift = len(descriptor) - 16
    data = bytearray(plain[:at] + descriptor + plain[at + 16 :])
    end = len(data) - 22
    (directory,) = struct.unpack_from("<I", data, end + 16)
    struct.pack_into("<I", data, end + 16, directory + shift)
    second = data.index(b"PK\1\2", directory + shift + 4)
    (offset,) = struct.unpack_from("<I", data, second + 42)
    struct.pack_into("<I", data, second + 42, offset + shift)
    return bytes(data)


def test_execute_bits_come_from_the_directory(store: Store, tmp_path: Path) -> None:
    wheel = Wheel(
        "zs-run",
        "1.0",
        "zs_run-1.0-py3-none-any.whl",
        pack(members("zs-run", "1.0", {"tool": b"#!", "text": b""}, executable=["tool"])),
    )
    site = install(store, wheel, tmp_path / "environment").site
    assert (site / "tool").stat().st_mode & 0o111
    assert not (site / "text").stat().st_mode & 0o111


def test_what_only_the_directory_can_explain_is_kept_on_disk_first(store: Store) -> None:
    entries = members("zs-odd", "1.0", {"zs_odd.py": b"X = 1\n"})
    odd = [
        Entry(each.name, each.content, method=0, described=True)
        if each.name == "zs_odd.py"
        else each
        for each in entries
    ]
    wheel = Wheel("zs-odd", "1.0", "zs_odd-1.0-py3-none-any.whl", pack(odd))
    source = OnePiece(wheel.data)
    found = take(store, wheel, source, [])
    assert (found.tree / "site" / "zs_odd.py").read_bytes() == b"X = 1\n"
    assert source.begun == 2
    assert store.sweep() == 0


def test_a_large_member_of_unknown_length_and_its_progress(store: Store) -> None:
    content = noise(1 << 20) * 12
    entries = members("zs-big", "1.0", {"zs_big.bin": content})
    big = [
        Entry(each.name, each.content, described=True) if each.content == content else each
        for each in entries
    ]
    wheel = Wheel("zs-big", "1.0", "zs_big-1.0-py3-none-any.whl", pack(big))
    progress: list[int] = []
    found = take(store, wheel, OnePiece(wheel.data), progress)
    assert (found.tree / "site" / "zs_big.bin").read_bytes() == content
    assert sum(progress) == len(wheel.data)
    assert len(progress) > 10


def test_an_end_without_end_is_refused(tmp_path: Path) -> None:
    stream = Stream(tmp_path, "pkg.whl")
    block = memoryview(bytes(16 << 20))
    for _ in range(8):
        stream.feed(block)
    with pytest.raises(WheelRejected, match="no end"):
        stream.feed(block)


class Endless:
    """A body that goes on for as long as it is read, up to a hundred times what it may have."""

    def __init__(self, start: bytes, again: bytes, most: int = 1 << 30) -> None:
        self.given = 0
        self._start, self._again, self._most = start, memoryview(again), most

    def tail(self, count: int) -> Tail:
        raise NoRanges(self)

    def read(self, start: int, into: memoryview, report: Report) -> None:
        raise AssertionError("nothing is left to be read")

    def spool(self, write: Report) -> int:
        self.given = 0
        piece = memoryview(self._start)
        while self.given < self._most:
            write(self.given, piece)
            self.given, piece = self.given + len(piece), self._again
        return self.given


def record(content: bytes, **about: object) -> bytes:
    """A member's record, as it stands in a file."""
    whole = pack([Entry("zs_bad/0", content, **about)])  # type: ignore[arg-type]
    return whole[: whole.index(b"PK\1\2")]


def refusal(store: Store, source: Endless, size: int | None = None) -> Exception:
    about = Locked("zs-bad", "1.0", "zs_bad-1.0-py3-none-any.whl", "", "0" * 64, size)
    intake = Intake(store, about, source, 1 << 20, lambda _: None, Buffers(1 << 20))
    try:
        with pytest.raises(Exception) as caught:  # noqa: PT011
            intake.open()
    finally:
        intake.abandon(keep=False)
    assert store.sweep() == 0
    return caught.value


@pytest.mark.parametrize("described", [False, True])
def test_no_more_is_taken_than_the_index_promised(store: Store, described: bool) -> None:
    """Neither of what is unpacked while it comes, nor of what goes to the disk first."""
    start = record(noise(1 << 20) * 8, method=0, described=described)
    source = Endless(start[: 1 << 20], start[1 << 20 : 2 << 20])
    error = refusal(store, source, 3 << 20)
    assert isinstance(error, DigestMismatch)
    assert "and not the 3145728 that the index promised" in str(error)
    assert source.given <= 4 << 20


def test_a_member_that_the_disk_has_no_room_for_is_not_begun(store: Store) -> None:
    head = record(b"", method=0, size=1 << 50, packed=1 << 50, wide=True)
    source = Endless(head, bytes(1 << 20))
    error = refusal(store, source)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert source.given <= 1 << 20


def test_a_member_of_unknown_length_ends_where_the_disk_has_no_room_for_it(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(64 << 20, 32 << 20, 32 << 20))
    content = noise(1 << 20)
    packer = zlib.compressobj(0, zlib.DEFLATED, -15)
    again = packer.compress(content) + packer.flush(zlib.Z_FULL_FLUSH)
    head = record(b"", described=True)
    source = Endless(head[: head.index(b"zs_bad/0") + 8], again)
    error = refusal(store, source)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert source.given <= 34 << 20


def test_a_body_on_its_way_to_the_disk_has_to_fit_twice(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(64 << 20, 32 << 20, 32 << 20))
    source = Endless(record(b"x", method=0, described=True), bytes(1 << 20))
    error = refusal(store, source)
    assert isinstance(error, OSError)
    assert error.errno == errno.ENOSPC
    assert source.given <= 33 << 20


def test_padding_without_end_is_refused(store: Store) -> None:
    head = record(b"", described=True)
    source = Endless(head[: head.index(b"zs_bad/0") + 8], b"\0\0\0\xff\xff" * 50_000)
    assert "is mostly padding" in str(refusal(store, source))
    assert source.given <= 1 << 20


def test_what_inflates_too_much_so_far_is_left_to_its_directory(tmp_path: Path) -> None:
    content = bytes(40 << 20)
    data = pack([Entry(str(n), content) for n in range(3)])
    stream = Stream(tmp_path, "pkg.whl")
    with pytest.raises(Unstreamable):
        stream.feed(memoryview(data))
    stream.close()
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 100 << 20
    with pytest.raises(WheelRejected, match="would inflate"):
        read_directory(*directory_of(data), "pkg.whl")


def directory_of(data: bytes) -> tuple[bytes, End]:
    end = find_end(data, len(data), "pkg.whl")
    return data[end.start : end.stop], end


def test_members_without_end_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream_module, "MEMBERS", 50)
    data = pack([Entry(str(n)) for n in range(51)])
    with pytest.raises(WheelRejected, match="more than 50 members"):
        Stream(tmp_path, "pkg.whl").feed(memoryview(data))
