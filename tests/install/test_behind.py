from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.install.wheels import Entry, noise, pack
from zerostart_jupyter.install import behind, inflate
from zerostart_jupyter.install.archive import find_end, read_directory
from zerostart_jupyter.install.behind import Behind
from zerostart_jupyter.install.inflate import Run


def test_everything_is_written_in_order(tmp_path: Path) -> None:
    with open(tmp_path / "file", "wb") as file:
        writing = Behind(file.fileno())
        for number in range(100):
            writing.write(str(number).encode())
        writing.close()
        writing.close()
    assert (tmp_path / "file").read_text() == "".join(map(str, range(100)))


def test_what_fails_is_raised_and_nobody_waits_for_ever(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    descriptor = os.open(tmp_path / "file", os.O_RDONLY)
    writing = Behind(descriptor)
    with pytest.raises(OSError, match="Bad file descriptor"):
        write_often(writing)
    with pytest.raises(OSError, match="Bad file descriptor"):
        writing.close()
    os.close(descriptor)


def write_often(writing: Behind) -> None:
    for _ in range(100):  # more than may wait
        writing.write(b"x")


@pytest.mark.parametrize("method", [0, 8])
def test_a_large_member_is_whole_whatever_becomes_of_the_memory_it_came_in(
    method: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflate, "WORTHWHILE", 1)
    monkeypatch.setattr(inflate, "_AT_ONCE", 1)
    content = noise(3 << 20) + bytes(3 << 20)
    data = pack([Entry("large", content, method, data=content if method == 0 else None)])
    end = find_end(memoryview(data), len(data), "w.whl")
    members = read_directory(memoryview(data)[end.start : end.stop], end, "w.whl")
    run = Run(members, lambda member: str(tmp_path / member.name), "w.whl")
    for start in range(run.start, run.stop, 1 << 18):
        buffer = bytearray(data[start : min(start + (1 << 18), run.stop)])
        run.feed(memoryview(buffer))
        buffer[:] = bytes(len(buffer))  # as it is used again for another segment
    assert (tmp_path / "large").read_bytes() == content


def test_a_disk_that_is_full_ends_the_member(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(inflate, "WORTHWHILE", 1)
    monkeypatch.setattr(inflate, "_AT_ONCE", 1)

    def full(descriptor: int, content: object) -> None:
        raise OSError(28, os.strerror(28))

    monkeypatch.setattr(behind, "write_all", full)
    data = pack([Entry("large", noise(3 << 20))])
    end = find_end(memoryview(data), len(data), "w.whl")
    members = read_directory(memoryview(data)[end.start : end.stop], end, "w.whl")
    run = Run(members, lambda member: str(tmp_path / member.name), "w.whl")
    with pytest.raises(OSError, match="No space"):
        run.feed(memoryview(data)[run.start : run.stop])
