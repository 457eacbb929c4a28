"""The handle of a load: what it gives before all has been read, and how it is called off."""

from __future__ import annotations

import asyncio
import errno
import json
import os
import signal
import threading
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from tests.load.files import describe, descriptors, file_bytes
from tests.load.gate import Gate
from tests.patience import PATIENCE
from zerostart_jupyter.core.errors import (
    Cancelled,
    LoadError,
    LoadTimeout,
    TensorMissing,
)
from zerostart_jupyter.core.events import Hub, State
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import Weights, load, loader, reading


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
