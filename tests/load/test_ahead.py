from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.load.files import descriptors
from tests.patience import PATIENCE, eventually
from zerostart_jupyter.bench.rounds import drop
from zerostart_jupyter.core.errors import CheckpointInvalid
from zerostart_jupyter.load import (
    ahead,
    checkpoint,
    disk,
    filesystem,
    first_touch,
    header,
    load,
    pages,
)
from zerostart_jupyter.load.ahead import Ahead

MANY = 4000  # tensors, whose header is a long one


@pytest.fixture
def long(disk_path: Path) -> Path:
    """A file with a long header and some megabytes behind it, not in memory."""
    path = disk_path / "long.safetensors"
    tensors = {f"model.layers.{number}.experts.weight": torch.ones(8) for number in range(MANY)}
    save_file({**tensors, "z": torch.arange(1 << 20)}, path)
    drop([path])
    assert disk.cached([path]) < 0.5
    return path


def while_parsing(monkeypatch: pytest.MonkeyPatch, look: Callable[[], object]) -> list[object]:
    """What `look` sees while a header is parsed."""
    parse = header.parse
    seen: list[object] = []

    def looking(text: bytes, data: int) -> header.Header:
        seen.append(look())
        return parse(text, data)

    monkeypatch.setattr(header, "parse", looking)
    return seen


def reads_ahead() -> bool:
    return any(thread.name == "zerostart-ahead" for thread in threading.enumerate())


def test_the_file_comes_while_its_long_header_is_parsed(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = descriptors()

    def all_here() -> bool:
        eventually(lambda: disk.cached([long]) == 1.0)
        return True

    seen = while_parsing(monkeypatch, all_here)
    with checkpoint.open_checkpoint(long, ahead=True) as opened:
        assert seen == [True]
        (shard,) = opened.shards
        assert shard.just_came(0)
        assert shard.just_came(long.stat().st_size - 1)
    assert not reads_ahead()
    assert descriptors() == before


def test_what_came_ahead_is_touched_as_what_comes_later_is(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    touched: list[int] = []
    touch = first_touch.touch
    monkeypatch.setattr(
        first_touch, "touch", lambda address, count: touched.append(touch(address, count))
    )
    while_parsing(monkeypatch, lambda: eventually(lambda: disk.cached([long]) == 1.0))
    found = load(long, device="cpu")
    assert sum(touched) >= (long.stat().st_size - (1 << 20)) // pages.PAGE
    expected = load_file(long)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.parametrize(
    "options",
    [{"background": True}, {"reader": "direct"}, {"slices": {"z": slice(0, 9)}}],
    ids=lambda options: next(iter(options)),
)
def test_it_is_left_alone_where_it_is_not_read_at_once_or_otherwise(
    long: Path, monkeypatch: pytest.MonkeyPatch, options: dict[str, object]
) -> None:
    seen = while_parsing(monkeypatch, reads_ahead)
    load(long, device="cpu", **options).wait()  # type: ignore[arg-type]
    assert seen == [False]


def test_a_short_header_is_parsed_before_a_thread_would_have_begun(
    disk_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = disk_path / "short.safetensors"
    save_file({"a": torch.arange(1 << 20)}, path)
    drop([path])
    assert disk.cached([path]) < 0.5
    seen = while_parsing(monkeypatch, reads_ahead)
    checkpoint.open_checkpoint(path, ahead=True).close()
    assert seen == [False]
    assert disk.cached([path]) < 0.9


def test_neither_is_a_header_that_is_remembered(long: Path) -> None:
    os.utime(long, ns=(1, 1))
    checkpoint.open_checkpoint(long).close()
    with checkpoint.open_checkpoint(long, ahead=True) as opened:
        assert opened.ahead is None


def test_a_network_file_system_is_not_read_by_page_faults(
    long: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = filesystem.of
    monkeypatch.setattr(filesystem, "of", lambda fd: replace(real(fd), network=True))
    with checkpoint.open_checkpoint(long, ahead=True) as opened:
        assert opened.ahead is None


def test_a_mount_that_is_gone_is_left_alone(long: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def gone(_: int) -> filesystem.FileSystem:
        raise OSError

    monkeypatch.setattr(filesystem, "of", gone)
    with checkpoint.open_checkpoint(long, ahead=True) as opened:
        assert opened.ahead is None


def test_what_is_refused_is_refused_as_ever_and_nothing_stays_open(disk_path: Path) -> None:
    before = descriptors()
    path = disk_path / "bad.safetensors"
    path.write_bytes((1 << 20).to_bytes(8, "little") + b" " * (2 << 20))
    with pytest.raises(CheckpointInvalid, match="its header is not JSON"):
        checkpoint.open_checkpoint(path, ahead=True)
    path.write_bytes(b"short")
    with pytest.raises(CheckpointInvalid, match="fewer than the 8"):
        checkpoint.open_checkpoint(path, ahead=True)
    assert not reads_ahead()
    assert descriptors() == before


class TestAhead:
    @pytest.fixture
    def made(self, long: Path) -> Ahead:
        self.file = long.open("rb")
        return Ahead([self.file.fileno()])

    def test_it_stops_between_two_steps(
        self, made: Ahead, long: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(ahead, "_STEP", 4 * pages.PAGE)
        asked: list[int] = []
        begun, go_on = threading.Event(), threading.Event()

        def bring(_: int, start: int, count: int) -> None:
            asked.append(start)
            begun.set()
            assert go_on.wait(PATIENCE)

        monkeypatch.setattr(pages, "bring", bring)
        made.start()
        assert begun.wait(PATIENCE)
        made.stop()
        go_on.set()
        made.close()
        assert asked == [0]
        assert made.brought(self.file.fileno(), 4 * pages.PAGE - 1)
        assert not made.brought(self.file.fileno(), 4 * pages.PAGE)
        assert not made.brought(-1, 0)

    def test_what_is_in_memory_was_not_brought(self, made: Ahead, long: Path) -> None:
        long.read_bytes()
        made.start()
        made._thread.join()
        assert not made.brought(self.file.fileno(), 0)

    def test_a_file_that_cannot_be_read_is_said_where_it_is_needed(
        self, made: Ahead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: int) -> None:
            raise OSError

        monkeypatch.setattr(pages, "bring", fail)
        made.start()
        made.close()

    def test_without_a_thread_or_on_an_old_kernel_nothing_is_read_ahead(
        self, made: Ahead, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def none_left(_: threading.Thread) -> None:
            raise RuntimeError

        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", none_left)
            made.start()
        monkeypatch.setattr(pages, "can_populate", lambda: False)
        made.start()
        made.close()
        assert not made.brought(self.file.fileno(), 0)
