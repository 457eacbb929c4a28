from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from tests.load.files import describe, descriptors, every_dtype, file_bytes, save_sharded
from zerostart_jupyter.core.errors import (
    CheckpointChanged,
    CheckpointInvalid,
    CheckpointNotFound,
    LoadError,
)
from zerostart_jupyter.load import header
from zerostart_jupyter.load.checkpoint import open_checkpoint, unreadable


def test_a_header_is_planned_once_for_a_file_that_rests(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parsed: list[int] = []
    real = header.parse

    def parse(text: bytes, data: int) -> header.Header:
        parsed.append(data)
        return real(text, data)

    monkeypatch.setattr(header, "parse", parse)
    path = tmp_path / "a.safetensors"
    save_file({"a": torch.ones(2)}, path)
    for _ in range(2):
        open_checkpoint(path).close()
    assert len(parsed) == 2, "it may still be written to within a tick of its clock"
    os.utime(path, ns=(1, 1))
    for _ in range(2):
        with open_checkpoint(path) as opened:
            assert list(opened.entries) == ["a"]
    assert len(parsed) == 3
    save_file({"b": torch.ones(2)}, path)
    with open_checkpoint(path) as opened:
        assert list(opened.entries) == ["b"]


def test_entries_are_in_file_order_with_offsets_of_the_file(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"z": torch.ones(2), "a": torch.zeros(3)}, {"m": torch.ones(1)}])
    with open_checkpoint(tmp_path) as checkpoint:
        assert [entry.shard for entry in checkpoint.entries.values()] == [0, 0, 1]
        assert checkpoint.nbytes == 24
        assert checkpoint.metadata == {"format": "pt"}
        for name, entry in checkpoint.entries.items():
            shard = checkpoint.shards[entry.shard]
            data = os.pread(shard.descriptor, entry.nbytes, entry.start)
            expected = {"z": torch.ones(2), "a": torch.zeros(3), "m": torch.ones(1)}[name]
            assert data == expected.numpy().tobytes()


@pytest.mark.parametrize(
    ("blob", "reason"),
    [
        (b"", "0 bytes"),
        (file_bytes({"a": describe("F32", [1], 0, 4)}, b"abc"), "truncated"),
        (file_bytes({"a": describe("I128", [1], 0, 16)}, bytes(16)), "unknown dtype 'I128'"),
        (file_bytes({}, length=1 << 62), "claims"),
    ],
)
def test_a_bad_file_is_one_line_that_names_it_and_leaves_nothing_open(
    tmp_path: Path, blob: bytes, reason: str
) -> None:
    path = tmp_path / "bad.safetensors"
    path.write_bytes(blob)
    before = descriptors()
    with pytest.raises(CheckpointInvalid, match=reason) as raised:
        open_checkpoint(path)
    assert str(path) in str(raised.value)
    assert "\n" not in str(raised.value)
    assert raised.value.remedy
    assert descriptors() == before


def test_a_bad_second_shard_closes_the_first(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"a": torch.ones(3)}, {"b": torch.ones(2)}])
    shard = tmp_path / "model-00002-of-00002.safetensors"
    shard.write_bytes(shard.read_bytes()[:-1])
    before = descriptors()
    with pytest.raises(CheckpointInvalid, match=r"model-00002-of-00002.*truncated"):
        open_checkpoint(tmp_path)
    assert descriptors() == before


def test_an_index_that_promises_too_much(tmp_path: Path) -> None:
    index = save_sharded(tmp_path, [{"a": torch.ones(3)}])
    body = json.loads(index.read_text())
    body["weight_map"]["b"] = body["weight_map"]["a"]
    index.write_text(json.dumps(body))
    with pytest.raises(CheckpointInvalid, match="the index promises tensor 'b' in it"):
        open_checkpoint(tmp_path)


def test_of_two_copies_the_index_says_which_counts(tmp_path: Path) -> None:
    one, other = torch.ones(3), torch.zeros(3)
    index = save_sharded(tmp_path, [{"a": one, "b": one.clone()}, {"a": other, "c": other.clone()}])
    for number in (1, 2):
        body = json.loads(index.read_text())
        body["weight_map"]["a"] = f"model-{number:05d}-of-00002.safetensors"
        index.write_text(json.dumps(body))
        with open_checkpoint(tmp_path) as checkpoint:
            shard = checkpoint.shards[checkpoint.entries["a"].shard]
            assert shard.path.name == f"model-{number:05d}-of-00002.safetensors"


def test_two_copies_without_an_index_are_an_error(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"a": torch.ones(3)}, {"a": torch.ones(3)}]).unlink()
    with pytest.raises(CheckpointInvalid, match="tensor 'a' is in model-00001-of-00002"):
        open_checkpoint(tmp_path)


def test_a_fifo_is_refused_and_does_not_hang(tmp_path: Path) -> None:
    path = tmp_path / "x.safetensors"
    os.mkfifo(path)
    with pytest.raises(CheckpointInvalid, match="not a regular file"):
        open_checkpoint(path)


def test_a_dangling_link_and_a_loop(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").symlink_to(tmp_path / "absent")
    with pytest.raises(CheckpointNotFound, match="There is no file"):
        open_checkpoint(tmp_path)
    (tmp_path / "model.safetensors").unlink()
    (tmp_path / "model.safetensors").symlink_to("model.safetensors")
    with pytest.raises(LoadError, match="cannot be opened"):
        open_checkpoint(tmp_path)


def test_every_type_that_safetensors_writes_is_in_the_table(tmp_path: Path) -> None:
    tensors = every_dtype()
    save_sharded(tmp_path, [tensors])
    with open_checkpoint(tmp_path) as checkpoint:
        assert set(checkpoint.entries) == set(tensors)
        for name, entry in checkpoint.entries.items():
            assert entry.shape == tuple(tensors[name].shape)
            assert entry.nbytes == tensors[name].nbytes


def test_identity_notices_writing_and_cutting(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"a": torch.ones(3)}])
    with open_checkpoint(tmp_path) as checkpoint:
        shard = checkpoint.shards[0]
        shard.verify()
        os.utime(shard.path, ns=(1, 1))
        with pytest.raises(CheckpointChanged, match=r"model-00001.*changed while.*load it again"):
            shard.verify()


def test_what_the_system_would_not_give_names_file_and_place(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"a": torch.ones(3)}])
    with open_checkpoint(tmp_path) as checkpoint:
        error = unreadable(checkpoint.shards[0], 4096, OSError(5, "Input/output error"))
        assert "at byte 4096: Input/output error" in str(error)


def test_closing_twice_closes_once(tmp_path: Path) -> None:
    save_sharded(tmp_path, [{"a": torch.ones(3)}])
    before = descriptors()
    checkpoint = open_checkpoint(tmp_path)
    checkpoint.close()
    checkpoint.close()
    assert descriptors() == before
