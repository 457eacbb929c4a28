"""`load()`: what comes, in which order, and how it ends, over real files."""

from __future__ import annotations

import errno
import gc
import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.load.files import descriptors, file_bytes
from tests.load.gate import Gate
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import (
    CheckpointChanged,
    CheckpointInvalid,
    LoadError,
    ReaderUnavailable,
)
from zerostart_jupyter.core.events import Event, Hub, State
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import Weights, load, loader
from zerostart_jupyter.load.tensors import parse_dtype

READERS = ("mmap", "direct")


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal bit for bit, NaN and all."""
    if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device:
        return False
    bits = [each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    return torch.equal(*bits)


ONE_THREAD = Settings(load_threads=1)


def reference(folder: Path) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = {}
    for path in sorted(folder.glob("*.safetensors")):
        found.update(load_file(path))
    return found


class TestEquality:
    @pytest.mark.parametrize("reader", READERS)
    @pytest.mark.parametrize("background", [False, True])
    def test_bit_for_bit_what_safetensors_loads(
        self, sharded: Path, reader: str, background: bool
    ) -> None:
        expected = reference(sharded)
        weights = load(sharded, device="cpu", reader=reader, background=background).wait()
        assert set(weights) == set(expected)
        for name, tensor in weights.items():
            assert same(tensor, expected[name]), name
            assert tensor.is_contiguous()
            assert not tensor.requires_grad

    @pytest.mark.parametrize("reader", READERS)
    def test_unaligned_data_is_copied_to_where_its_type_may_lie(
        self, tmp_path: Path, reader: str
    ) -> None:
        path = tmp_path / "odd.safetensors"
        values = torch.randn(5000)
        header = (
            b'{"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},'
            b'"b":{"dtype":"F32","shape":[5000],"data_offsets":[1,20001]}}'
        )
        path.write_bytes(file_bytes(header, b"\7" + values.numpy().tobytes()))
        weights = load(path, device="cpu", reader=reader)
        assert weights["b"].data_ptr() % 4 == 0
        assert torch.equal(weights["b"], values)
        assert weights["a"].tolist() == [7]

    def test_f4_comes_packed_in_pairs(self, tmp_path: Path) -> None:
        path = tmp_path / "f4.safetensors"
        path.write_bytes(
            file_bytes(
                b'{"a":{"dtype":"F4","shape":[2,4],"data_offsets":[0,4]}}', b"\x12\x34\x56\x78"
            )
        )
        tensor = load(path, device="cpu")["a"]
        assert tensor.dtype is torch.float4_e2m1fn_x2
        assert tensor.shape == (2, 2)
        assert tensor.view(torch.uint8).tolist() == [[0x12, 0x34], [0x56, 0x78]]

    def test_iteration_is_in_file_order(self, sharded: Path) -> None:
        from zerostart_jupyter.load.checkpoint import open_checkpoint

        with open_checkpoint(sharded) as checkpoint:
            expected = [
                entry.name
                for entry in sorted(checkpoint.entries.values(), key=lambda e: (e.shard, e.start))
            ]
        weights = load(sharded, device="cpu")
        assert list(weights) == list(weights.keys()) == expected
        assert len(weights) == weights.tensors == len(expected)

    def test_one_tensor_saved_is_one_tensor_on_disk(self, sharded: Path, tmp_path: Path) -> None:
        weights = load(sharded, device="cpu")
        torch.save(weights["nan"], tmp_path / "one.pt")
        assert (tmp_path / "one.pt").stat().st_size < 10_000


class TestDtype:
    def test_converts_floats_of_16_bits_and_more_and_nothing_else(self, sharded: Path) -> None:
        expected = reference(sharded)
        weights = load(sharded, device="cpu", dtype="bf16")
        converted = {"F16": torch.float16, "BF16": torch.bfloat16, "F32": torch.float32}
        for name, tensor in weights.items():
            before = expected[name]
            if before.dtype in (*converted.values(), torch.float64):
                assert same(tensor, before.to(torch.bfloat16)), name
            else:
                assert same(tensor, before), name
        assert weights.dtype == "bfloat16"

    @pytest.mark.parametrize("word", ["bf16", "BF16", "bfloat16", "torch.bfloat16", " bf16 "])
    def test_takes_the_words_people_use(self, word: str) -> None:
        assert parse_dtype(word) is torch.bfloat16

    def test_none_and_auto_keep_the_files(self) -> None:
        assert parse_dtype(None) is None
        assert parse_dtype("auto") is None
        assert parse_dtype(torch.half) is torch.half

    def test_an_unknown_word_lists_the_known(self, sharded: Path) -> None:
        with pytest.raises(LoadError, match=r"'int4' is not a dtype.*bfloat16, float16"):
            load(sharded, dtype="int4")


class TestBadInput:
    def test_a_missing_device(self, sharded: Path) -> None:
        with pytest.raises(LoadError, match=r"no device 'tpu'.*device=\"auto\""):
            load(sharded, device="tpu")

    @pytest.mark.skipif(torch.cuda.is_available(), reason="speaks of a machine without a GPU")
    def test_no_gpu(self, sharded: Path) -> None:
        with pytest.raises(LoadError, match="no device 'cuda:0' here"):
            load(sharded, device="cuda:0")

    def test_an_unknown_reader(self, sharded: Path) -> None:
        with pytest.raises(LoadError, match=r"no reader 'fast'.*auto, mmap, direct, cufile"):
            load(sharded, device="cpu", reader="fast")

    def test_a_type_that_torch_has_not_is_refused_before_reading(self, tmp_path: Path) -> None:
        path = tmp_path / "f6.safetensors"
        path.write_bytes(
            file_bytes(b'{"a":{"dtype":"F6_E2M3","shape":[4],"data_offsets":[0,3]}}', b"abc")
        )
        before = descriptors()
        with pytest.raises(CheckpointInvalid, match="tensor 'a' is F6_E2M3, which torch"):
            load(path)
        assert descriptors() == before

    @pytest.mark.parametrize(
        ("shape", "reason"),
        [("[4,3]", "pairs along the last"), ("[18446744073709551615,0]", "2^63")],
    )
    def test_a_shape_that_torch_has_not(self, tmp_path: Path, shape: str, reason: str) -> None:
        path = tmp_path / "x.safetensors"
        size = 6 if shape == "[4,3]" else 0
        header = f'{{"a":{{"dtype":"F4","shape":{shape},"data_offsets":[0,{size}]}}}}'
        path.write_bytes(file_bytes(header.encode(), bytes(size)))
        with pytest.raises(CheckpointInvalid) as raised:
            load(path)
        assert reason in str(raised.value)

    def test_every_failure_leaves_no_descriptor_and_no_thread(self, tmp_path: Path) -> None:
        path = tmp_path / "cut.safetensors"
        save_file({"a": torch.ones(1000)}, path)
        os.truncate(path, path.stat().st_size - 1)
        before = descriptors()
        for source in (path, tmp_path / "absent.safetensors"):
            with pytest.raises(LoadError):
                load(source, device="cpu")
        assert descriptors() == before
        assert not [each for each in threading.enumerate() if each.name.startswith("zerostart-")]

    def test_no_tensors_at_all(self, tmp_path: Path) -> None:
        path = tmp_path / "none.safetensors"
        path.write_bytes(file_bytes({}))
        weights = load(path, device="cpu")
        assert (len(weights), weights.bytes, weights.done) == (0, 0, True)


class TestFailure:
    def test_a_failing_disk(self, rows: Path, gate: Gate) -> None:
        before = descriptors()
        gate.failure = OSError(errno.EIO, os.strerror(errno.EIO))
        gate.open()
        with pytest.raises(LoadError, match=r"rows.*could not be read at byte.*Input/output error"):
            load(rows, device="cpu")
        assert descriptors() == before

    def test_no_memory_left(self, rows: Path, gate: Gate) -> None:
        gate.failure = torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")
        gate.open()
        with pytest.raises(LoadError, match=r"does not fit: CUDA out of memory.*smaller dtype"):
            load(rows, device="cpu")

    def test_an_error_of_nobodys_is_not_swallowed(self, rows: Path, gate: Gate) -> None:
        gate.failure = ZeroDivisionError("a bug")
        gate.open()
        with pytest.raises(ZeroDivisionError, match="a bug"):
            load(rows, device="cpu")

    def test_a_file_written_to_meanwhile(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        with rows.open("r+b") as file:
            file.seek(-1, os.SEEK_END)
            file.write(b"x")
        os.utime(rows, ns=(1, 1))
        gate.open()
        with pytest.raises(CheckpointChanged, match="changed while it was being read"):
            weights["row.3"]
        assert weights.done

    @pytest.mark.parametrize("reader", READERS)
    def test_a_file_cut_short_between_header_and_data(
        self, rows: Path, reader: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from zerostart_jupyter.load.checkpoint import open_checkpoint

        def opened_and_cut(source: Path, settings: Settings | None, *, ahead: bool) -> object:
            checkpoint = open_checkpoint(source, settings, ahead=ahead)
            os.truncate(source, 1 << 20)
            return checkpoint

        monkeypatch.setattr(loader, "open_checkpoint", opened_and_cut)
        with pytest.raises(CheckpointChanged):
            load(rows, device="cpu", reader=reader)


class TestThreads:
    """The system that gives no more threads."""

    @pytest.fixture
    def starts(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names whose threads cannot be started any more, after those already started."""
        refused: list[str] = []
        start = threading.Thread.start

        def limited(thread: threading.Thread) -> None:
            if any(thread.name.startswith(prefix) for prefix in refused):
                raise RuntimeError("can't start new thread")
            start(thread)

        monkeypatch.setattr(threading.Thread, "start", limited)
        return refused

    def test_one_reading_thread_is_enough(self, rows: Path, starts: list[str]) -> None:
        starts += ["zerostart-read-1", "zerostart-read-2"]
        assert torch.equal(load(rows, device="cpu")["row.3"], torch.full((1 << 20,), 3))

    @pytest.mark.parametrize("name", ["zerostart-load", "zerostart-read"])
    def test_none_is_an_error_that_leaves_nothing(
        self, rows: Path, starts: list[str], name: str
    ) -> None:
        before = descriptors()
        starts.append(name)
        for background in (False, True):
            with pytest.raises(LoadError, match=r"No thread could be started.*ulimit -u"):
                load(rows, device="cpu", background=background).wait()
        assert descriptors() == before


class TestEvents:
    def test_shards_are_the_items_and_bytes_the_unit(self, sharded: Path) -> None:
        hub = Hub()
        weights = load(sharded, device="cpu", hub=hub)
        events = {event.item: event for event in hub.known()}
        whole = events.pop("")
        assert (whole.kind, whole.title, whole.unit) == ("load", "tiny", "bytes")
        assert (whole.state, whole.done, whole.total) == (
            State.DONE,
            weights.bytes,
            weights.bytes,
        )
        assert set(events) == {path.name for path in weights.files}
        assert all(event.state is State.DONE for event in events.values())
        assert sum(event.done for event in events.values()) == weights.bytes

    def test_a_failure_is_told(self, rows: Path, gate: Gate) -> None:
        hub = Hub()
        seen: list[Event] = []
        hub.subscribe(seen.extend)
        gate.failure = OSError(errno.EIO, os.strerror(errno.EIO))
        gate.open()
        with pytest.raises(LoadError):
            load(rows, device="cpu", hub=hub)
        assert seen[-1].state is State.FAILED
        assert "Input/output error" in (seen[-1].error or "")


class TestReferences:
    def noted(self, weights: Weights) -> dict[str, object]:
        return {
            live.name: live.reference
            for live in references().live()
            if live.reference.path in weights.files
        }

    @pytest.mark.parametrize("reader", READERS)
    def test_every_tensor_is_known_by_its_bytes(self, sharded: Path, reader: str) -> None:
        weights = load(sharded, device="cpu", reader=reader)
        living = {
            live.name: live for live in references().live() if live.reference.path in weights.files
        }
        assert set(living) == {name for name, tensor in weights.items() if tensor.nbytes}
        for name, live in living.items():
            assert live.address == weights[name].data_ptr()
            with live.reference.path.open("rb") as file:
                file.seek(live.reference.offset)
                found = file.read(live.reference.length)
            tensor = weights[name].reshape(-1).view(torch.uint8)
            assert bytes(tensor.tolist()) == found

    def test_one_that_was_written_to_is_known_no_more(self, sharded: Path) -> None:
        weights = load(sharded, device="cpu")
        weights["half"].zero_()
        noted = self.noted(weights)
        assert "half" not in noted
        assert "big.0" in noted, "its neighbour in the same mapping was not touched"

    def test_one_that_was_converted_is_not_the_files(self, sharded: Path) -> None:
        weights = load(sharded, device="cpu", dtype="bf16")
        noted = self.noted(weights)
        assert "big.0" not in noted
        assert "big.1" in noted

    def test_the_register_keeps_nothing_alive(self, sharded: Path) -> None:
        gc.disable()  # memory comes back when the last tensor goes, not when the collector runs
        try:
            weights = load(sharded, device="cpu")
            files = weights.files
            assert self.noted(weights)
            threads = [each for each in threading.enumerate() if each.name == "zerostart-load"]
            del weights
            for thread in threads:
                thread.join(PATIENCE)
            self.check_gone(files)
        finally:
            gc.enable()

    def check_gone(self, files: Sequence[Path]) -> None:
        assert not [each for each in references().live() if each.reference.path in files]
        maps = Path("/proc/self/maps").read_text()
        assert not [path for path in files if str(path) in maps]


_MEMORY = """
import sys, torch
from pathlib import Path
from zerostart_jupyter.load import load

def anonymous():
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon:"):
            return int(line.split()[1]) * 1024

load(sys.argv[1], device="cpu")  # threads, caches and imports are paid once
before = anonymous()
weights = load(sys.argv[2], device="cpu")
total = sum(int(tensor[::1024].sum()) for tensor in weights.values())
print(anonymous() - before, weights.bytes, total)
"""


def test_a_mapped_load_has_no_memory_of_its_own(tmp_path: Path) -> None:
    for name, count in (("warm", 1 << 16), ("big", 1 << 24)):
        save_file(
            {"a": torch.ones(count), "b": torch.ones(count)}, tmp_path / f"{name}.safetensors"
        )
    ran = subprocess.run(
        [
            sys.executable,
            "-c",
            _MEMORY,
            tmp_path / "warm.safetensors",
            tmp_path / "big.safetensors",
        ],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    grown, size, total = map(int, ran.stdout.split())
    assert size == 1 << 27
    assert total == 1 << 15
    assert grown < size * 0.05


def test_a_forked_child_is_told_that_nobody_reads_for_it(rows: Path, gate: Gate) -> None:
    weights = load(rows, device="cpu", background=True)
    gate.wait_for_reader()
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            weights["row.3"]
        except LoadError as error:
            os.write(writing, str(error).encode())
        finally:
            os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as answer:
        assert "was still being loaded when this process was forked" in answer.read()
    os.waitpid(child, 0)
    gate.open()
    assert weights.wait(PATIENCE).done


def test_cufile_that_cannot_work_is_refused_with_its_reason(tmp_path: Path) -> None:
    save_file({"a": torch.ones(3)}, tmp_path / "x.safetensors")
    # In a process of its own: this one may have loaded the fake driver.
    code = (
        "import sys\nfrom zerostart_jupyter.load import load\n"
        "load(sys.argv[1], device='cpu', reader='cufile')"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "x.safetensors"],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
        cwd=Path(__file__).parents[2],
    )
    assert ReaderUnavailable.__name__ in ran.stderr
    assert "cufile reader cannot work here" in ran.stderr
    assert 'reader="auto"' in ran.stderr
