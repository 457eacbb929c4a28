from __future__ import annotations

import dataclasses
import json
import random
from pathlib import Path

import pytest

from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot.manifest import (
    FILE,
    Manifest,
    Needed,
    digests,
    needed,
    note,
    verify,
)


@pytest.fixture
def images(tmp_path: Path) -> Path:
    (tmp_path / "pages-1.img").write_bytes(b"p" * 10_000)
    (tmp_path / "core-7.img").write_bytes(b"core")
    (tmp_path / "dump.log").write_text("not an image")
    return tmp_path


def tick(folder: Path) -> None:
    """Wait until the file system's clock goes on: older systems count in steps of 4 ms."""
    probe = folder / "probe"
    probe.touch()
    first = probe.stat().st_mtime_ns
    while probe.stat().st_mtime_ns == first:
        probe.touch()
    probe.unlink()


def made(images: Path) -> Manifest:
    return Manifest(
        id="a",
        pid=7,
        last_pid=9,
        channel={"to": 3, "from": 4},
        criu="4.2.1",
        inherited=("pipe:[1]",),
        needed=(Needed("/lib/x", 3, 4),),
        digests=digests(images),
        sockets=("1.2.3.4:80",),
    )


def test_it_is_read_as_it_was_written(images: Path) -> None:
    made(images).write(images)
    assert Manifest.read(images) == made(images)
    assert made(images).bytes == 10_004
    assert (images / FILE).stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", '{"schema": 99}', '{"schema": 1, "needed": 3}', '{"schema": 1, "needed": []}'],
)
def test_anything_else_is_refused(images: Path, content: str) -> None:
    (images / FILE).write_text(content)
    with pytest.raises(SnapshotCorrupt):
        Manifest.read(images)


def test_a_field_that_is_not_known_is_refused(images: Path) -> None:
    made(images).write(images)
    body = json.loads((images / FILE).read_text()) | {"surprise": 1}
    (images / FILE).write_text(json.dumps(body))
    with pytest.raises(SnapshotCorrupt):
        Manifest.read(images)


def test_whole_images_pass(images: Path) -> None:
    verify(made(images), images)


@pytest.mark.parametrize("at", [0, 5_000, 9_999])
def test_a_single_bit_is_noticed_and_its_file_named(images: Path, at: int) -> None:
    expected = made(images)
    content = bytearray((images / "pages-1.img").read_bytes())
    content[at] ^= 1
    (images / "pages-1.img").write_bytes(content)
    with pytest.raises(SnapshotCorrupt, match=r"pages-1\.img is not what was written"):
        verify(expected, images)


@pytest.mark.parametrize("seed", range(50))
def test_damage_is_noticed_in_what_a_restore_does_not_read(images: Path, seed: int) -> None:
    expected = dataclasses.replace(made(images), noted=note(images))
    verify(expected, images)
    chance = random.Random(seed)
    tick(images)
    with (images / "pages-1.img").open("r+b") as stream:
        at = chance.randrange(10_000)
        stream.seek(at)
        before = stream.read(1)
        stream.seek(at)
        stream.write(bytes([before[0] ^ 1 << chance.randrange(8)]))
    with pytest.raises(SnapshotCorrupt, match=r"pages-1\.img is not what was written"):
        verify(expected, images)


def test_only_a_thorough_look_finds_what_a_disk_has_lost(images: Path) -> None:
    expected = made(images)
    (images / "pages-1.img").write_bytes(bytes(10_000))
    expected = dataclasses.replace(expected, noted=note(images))
    verify(expected, images)
    with pytest.raises(SnapshotCorrupt, match=r"pages-1\.img is not what was written"):
        verify(expected, images, thorough=True)


def test_files_that_go_or_come_are_noticed(images: Path) -> None:
    expected = made(images)
    (images / "extra.img").touch()
    with pytest.raises(SnapshotCorrupt, match=r"extra\.img was added"):
        verify(expected, images)
    (images / "extra.img").unlink()
    (images / "core-7.img").unlink()
    with pytest.raises(SnapshotCorrupt, match=r"core-7\.img is missing"):
        verify(expected, images)


def test_what_a_restore_needs_is_there_at_the_dump(tmp_path: Path) -> None:
    library = tmp_path / "x.so"
    library.write_bytes(b"abc")
    status = library.stat()
    found = needed(
        [
            (str(library), 3, True),
            (str(tmp_path), None, False),
            (str(tmp_path / "deleted while open"), 5, False),
            ("/dev/null", None, False),
            ("/proc/self/status", None, False),
        ]
    )
    assert found == (
        Needed(str(tmp_path), None, None),
        Needed(str(library), 3, status.st_mtime_ns),
    )
