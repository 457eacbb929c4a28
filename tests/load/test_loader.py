from __future__ import annotations

import asyncio
import errno
import gc
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.load.files import describe, descriptors, every_dtype, file_bytes, save_sharded
from tests.load.gate import PATIENCE, Gate
from zerostart_jupyter.core.errors import (
    Cancelled,
    CheckpointChanged,
    CheckpointInvalid,
    LoadError,
    LoadTimeout,
    ReaderUnavailable,
    TensorMissing,
)
from zerostart_jupyter.core.events import Event, Hub, State
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import Weights, load, loader, reading
from zerostart_jupyter.load.tensors import parse_dtype

READERS = ("mmap", "direct")


def same(one: torch.Tensor, other: torch.Tensor) -> bool:
    """Equal bit for bit, NaN and all."""
    if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device:
        return False
    bits = [each.detach().contiguous().reshape(-1).view(torch.uint8) for each in (one, other)]
    return torch.equal(*bits)


@pytest.fixture
def sharded(tmp_path: Path) -> Path:
    """Three shards of every type, larger than a block, with their index."""
    generator = torch.Generator().manual_seed(7)
    big = torch.randn(900, 2048, generator=generator)
    save_sharded(
        tmp_path / "tiny",
        [
            {"big.0": big, "half": big[:300].half()},
            every_dtype(),
            {"big.1": big.bfloat16(), "nan": torch.full((5,), float("nan"))},
        ],
    )
    return tmp_path / "tiny"


@pytest.fixture
def rows(tmp_path: Path) -> Path:
    """Four tensors of one block each in a background load's terms, and one after them."""
    save_file(
        {f"row.{number}": torch.full((1 << 20,), number) for number in range(4)},
        tmp_path / "rows.safetensors",
    )
    return tmp_path / "rows.safetensors"


@pytest.fixture
def gate(monkeypatch: pytest.MonkeyPatch) -> Gate:
    monkeypatch.setattr(loader, "POPULATE", 8 << 20)
    return Gate(monkeypatch)


def demanded(weights: Weights) -> threading.Event:
    """Is set when a tensor has been asked for."""
    demand = weights._demand
    asked = threading.Event()

    def noted(names: Sequence[str]) -> None:
        demand(names)
        asked.set()

    weights._demand = noted  # type: ignore[assignment]
    return asked


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


class TestHandle:
    def test_a_background_load_returns_before_a_byte_is_read(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True)
        gate.wait_for_reader()
        assert not weights.done
        assert list(weights) == [f"row.{number}" for number in range(4)]
        assert "row.3" in weights
        assert "row.4" not in weights
        assert weights.bytes == 4 << 23
        assert "loading to cpu" in repr(weights)
        gate.open()
        assert weights.wait() is weights
        assert weights.done
        assert "4 tensors" in repr(weights)

    def test_asking_for_a_tensor_reads_it_next(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.wait_for_reader()  # the first block is taken; the rest is still to be ordered
        got: list[torch.Tensor] = []
        asker = threading.Thread(target=lambda: got.append(weights["row.3"]))
        asked = demanded(weights)
        asker.start()
        assert asked.wait(PATIENCE)
        gate.open(3)  # the block in hand, and the two that row.3 touches
        asker.join(PATIENCE)
        assert torch.equal(got[0], torch.full((1 << 20,), 3))
        assert [start for _, start in gate.order][:3] == [0, 3 << 23, 4 << 23]
        gate.open()
        weights.wait()

    @pytest.mark.parametrize("dtype", [None, "bf16"])
    def test_asking_for_a_tensor_does_not_wait_for_the_rest_of_a_large_block(
        self, tmp_path: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch, dtype: str | None
    ) -> None:
        # Three GiB with hardly a byte on the disk, in two blocks.
        size, end = 3 << 30, (3 << 30) + 4096
        header = {
            "big": describe("U8", [size], 0, size),
            "small": describe("F32", [1024], size, end),
        }
        text = json.dumps(header).encode()
        begin = 8 + len(text) + -len(text) % 8
        path = tmp_path / "sparse.safetensors"
        path.write_bytes(file_bytes(text + b" " * (-len(text) % 8)))
        os.truncate(path, begin + end)
        monkeypatch.setattr(loader, "POPULATE", 2 << 30)
        weights = load(path, device="cpu", dtype=dtype, background=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        asked = demanded(weights)
        got: list[torch.Tensor] = []
        asker = threading.Thread(target=lambda: got.append(weights["small"]))
        asker.start()
        assert asked.wait(PATIENCE)
        gate.open(2)  # the step in hand, and what is asked for
        asker.join(PATIENCE)
        assert got[0].tolist() == [0] * 1024
        assert [start for _, start in gate.order] == [0, (begin + size) // 4096 * 4096]
        assert weights.progress == (4096, end)
        gate.open()
        assert weights.wait(PATIENCE).progress == (end, end)
        assert weights["small"] is got[0]

    def test_cancel_ends_a_large_block_after_the_step_it_is_at(
        self, rows: Path, gate: Gate, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(loader, "POPULATE", 32 << 20)
        monkeypatch.setattr(reading, "STEP", 8 << 20)
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        weights.cancel()
        gate.open()
        with pytest.raises(Cancelled):
            weights.wait(PATIENCE)
        assert len(gate.order) == 1

    def test_waiting_for_some_reads_them_first(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        with pytest.raises(LoadTimeout, match=r"not loaded within 0 s.*goes on"):
            weights.wait(0, names=["row.2"])
        gate.open()
        weights.wait(PATIENCE, names=["row.2", "row.1"])
        assert gate.order[1][1] == 2 << 23
        weights.wait()

    def test_waiting_has_a_limit(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True)
        with pytest.raises(TimeoutError, match="wait again, or cancel"):
            weights.wait(0.01)
        gate.open()
        assert weights.wait(PATIENCE).done

    def test_a_missing_name_does_not_wait(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True)
        with pytest.raises(TensorMissing, match=r"no tensor 'row.9'.*Did you mean 'row"):
            weights["row.9"]
        with pytest.raises(KeyError, match="shows the names"):
            weights.wait(names=["something else"])
        assert weights.get("row.9") is None
        gate.open()
        weights.wait()

    def test_get_looks_for_no_likely_name(
        self, rows: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        asked: list[str] = []
        monkeypatch.setattr(
            "zerostart_jupyter.load.weights.closest", lambda name, names: asked.append(name)
        )
        weights = load(rows, device="cpu")
        assert weights.get("row.9") is None
        assert weights.get("row.9", 7) == 7
        assert weights.get("row.3") is weights["row.3"]
        assert asked == []

    def test_progress_is_bytes_done_and_in_all(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.wait_for_reader()
        assert weights.progress == (0, 4 << 23)
        gate.open(2)
        weights.wait(PATIENCE, names=["row.0"])
        assert 1 << 23 <= weights.progress.done < weights.progress.total
        gate.open()
        assert weights.wait().progress == (4 << 23, 4 << 23)
        assert "progress" in dir(weights)

    def test_await(self, rows: Path, gate: Gate) -> None:
        async def use() -> Weights:
            weights = load(rows, device="cpu", background=True)
            asyncio.get_running_loop().call_soon(gate.open)
            assert await weights is weights
            return await weights  # a second time, when it is done

        assert asyncio.run(use()).done

    def test_await_ends_with_the_failure(self, rows: Path, gate: Gate) -> None:
        gate.failure = OSError(errno.EIO, os.strerror(errno.EIO))
        gate.open()

        async def use() -> None:
            await load(rows, device="cpu", background=True)

        with pytest.raises(LoadError, match="could not be read at byte"):
            asyncio.run(use())

    def test_a_loop_that_ended_first_does_no_harm(self, rows: Path, gate: Gate) -> None:
        weights = load(rows, device="cpu", background=True)

        async def give_up() -> None:
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(weights._finished(), 0.01)

        asyncio.run(give_up())
        gate.open()
        weights.wait(PATIENCE)

    def test_says_what_scripts_rely_on(self, sharded: Path) -> None:
        found = load(sharded, device="cpu").as_json()
        assert {"tensors", "bytes", "seconds", "gb_per_second", "reader", "device"} <= set(found)
        assert found["reader"] == "mmap"
        assert found["shards"] == 3
        assert found["seconds"] > 0
        assert found["statistics"]["bytes"] >= found["bytes"]


class TestCancel:
    def test_keeps_what_arrived_and_refuses_the_rest(self, rows: Path, gate: Gate) -> None:
        before = descriptors()
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD)
        gate.open(2)
        assert weights["row.0"][0] == 0
        weights.cancel()
        gate.open()
        with pytest.raises(Cancelled, match=r"load of rows.safetensors was cancelled"):
            weights.wait(PATIENCE)
        assert weights["row.0"].shape == (1 << 20,)
        with pytest.raises(Cancelled):
            weights["row.3"]
        assert weights.done
        weights.cancel()
        assert descriptors() == before

    def test_by_the_operation_from_outside(self, rows: Path, gate: Gate) -> None:
        hub = Hub()
        weights = load(rows, device="cpu", background=True, settings=ONE_THREAD, hub=hub)
        gate.wait_for_reader()
        (operation,) = {event.operation for event in hub.known()}
        assert hub.cancel(operation)
        gate.open()
        with pytest.raises(Cancelled):
            weights.wait(PATIENCE)
        assert [event.state for event in hub.known() if event.item == ""][-1] is State.CANCELLED

    def test_at_any_moment_all_is_closed(self, rows: Path, gate: Gate) -> None:
        before = descriptors()
        for blocks in range(5):
            weights = load(rows, device="cpu", background=True)
            if blocks:
                gate.open(blocks)
            weights.cancel()
            gate.open(8)
            try:
                weights.wait(PATIENCE)
            except Cancelled:
                assert len(weights._came) < len(weights)
            assert descriptors() == before

    def test_control_c_stops_a_load_in_the_foreground(self, rows: Path, gate: Gate) -> None:
        before = descriptors()

        def interrupt() -> None:
            gate.wait_for_reader()
            os.kill(os.getpid(), signal.SIGINT)
            gate.open()

        presser = threading.Thread(target=interrupt)
        presser.start()
        try:
            with pytest.raises(KeyboardInterrupt):
                load(rows, device="cpu", settings=ONE_THREAD)
        finally:
            presser.join()
        assert descriptors() == before
        assert not [each for each in threading.enumerate() if each.name.startswith("zerostart-")]


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

        def opened_and_cut(source: Path, settings: Settings | None) -> object:
            checkpoint = open_checkpoint(source, settings)
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
