from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
import torch

from tests.load.files import descriptors, save_sharded
from zerostart_jupyter.cli.main import main


@pytest.fixture
def checkpoint(tmp_path: Path) -> Path:
    save_sharded(tmp_path / "tiny", [{"a": torch.ones(3000)}, {"b": torch.zeros(2, 2)}])
    return tmp_path / "tiny"


def test_json_has_the_keys_scripts_rely_on(
    checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["load", str(checkpoint), "--json", "--device", "cpu"]) == 0
    out, err = capsys.readouterr()
    found = json.loads(out)
    assert err == ""
    assert out.count("\n") == 1
    assert (found["tensors"], found["bytes"]) == (2, 12016)
    assert (found["reader"], found["device"]) == ("mmap", "cpu")
    assert found["seconds"] > 0
    assert found["gb_per_second"] >= 0
    assert found["cached_before"] == 1.0
    if found["disk_share"] is not None:
        assert found["disk_gb_per_second"] >= 0


@pytest.mark.parametrize("reader", ["mmap", "direct"])
def test_the_text_says_how_fast_and_against_what(
    checkpoint: Path, reader: str, capsys: pytest.CaptureFixture[str]
) -> None:
    options = ["--device", "cpu", "--reader", reader, "--dtype", "bf16"]
    assert main(["load", str(checkpoint), *options]) == 0
    out, err = capsys.readouterr()
    first, second = out.splitlines()
    assert first.startswith("2 tensors, 0.00 GiB on cpu in ")
    assert first.endswith(f" GB/s by {reader}.")
    assert "the disk's own" in second or "no O_DIRECT" in second
    assert err == ""


def test_without_direct_io_the_share_is_unknown(
    checkpoint: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerostart_jupyter.load import disk

    monkeypatch.setattr(disk, "probe", lambda files: None)
    assert main(["load", str(checkpoint), "--device", "cpu"]) == 0
    assert "The disk's own speed is unknown" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("break_it", "said"),
    [
        (lambda shard: os.truncate(shard, shard.stat().st_size - 1), "truncated"),
        (lambda shard: shard.unlink(), "is missing in"),
        (lambda shard: shard.write_bytes(b""), "not a valid safetensors file"),
    ],
)
def test_bad_input_is_one_line_and_leaves_nothing(
    checkpoint: Path,
    capsys: pytest.CaptureFixture[str],
    break_it: object,
    said: str,
) -> None:
    assert callable(break_it)
    break_it(checkpoint / "model-00002-of-00002.safetensors")
    before = descriptors()
    assert main(["load", str(checkpoint), "--json"]) == 1
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("zerostart load: ")
    assert err.count("\n") == 1
    assert said in err
    assert "model-00002-of-00002.safetensors" in err
    assert descriptors() == before


def test_a_reader_that_is_not_one_is_a_usage_error(checkpoint: Path) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["load", str(checkpoint), "--reader", "fast"])
    assert ended.value.code == 2
