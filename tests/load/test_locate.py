from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.load.files import save_sharded
from zerostart_jupyter.core.errors import CheckpointInvalid, CheckpointNotFound, LoadError
from zerostart_jupyter.load import hub
from zerostart_jupyter.load.locate import locate

PARTS = [{"a": torch.ones(3)}, {"b": torch.ones(2)}]


def names(source: str | Path) -> list[str]:
    return [path.name for path in locate(source).files]


def touch(folder: Path, *files: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in files:
        (folder / name).touch()
    return folder


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A hub cache with one model, as huggingface_hub lays it out."""
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")  # which cannot be asked
    repository = tmp_path / "hub" / "models--org--tiny"
    commit = "0123456789abcdef0123456789abcdef01234567"
    blob = repository / "blobs" / "f00d"
    blob.parent.mkdir(parents=True)
    blob.write_bytes(b"weights")
    snapshot = repository / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "model.safetensors").symlink_to(blob)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    return snapshot


def test_a_file_is_itself(tmp_path: Path) -> None:
    touch(tmp_path, "any.safetensors")
    found = locate(tmp_path / "any.safetensors")
    assert (found.title, names(tmp_path / "any.safetensors")) == (
        "any.safetensors",
        ["any.safetensors"],
    )


def test_an_index_names_its_shards_in_order(tmp_path: Path) -> None:
    index = save_sharded(tmp_path / "model", PARTS)
    found = locate(str(index))
    assert found.title == "model"
    assert [path.name for path in found.files] == [
        "model-00001-of-00002.safetensors",
        "model-00002-of-00002.safetensors",
    ]
    assert found.homes == {"a": found.files[0], "b": found.files[1]}
    assert locate(tmp_path / "model") == found


@pytest.mark.parametrize(
    ("files", "chosen"),
    [
        (["model.safetensors", "other.safetensors"], ["model.safetensors"]),
        (["adapter_model.safetensors", "config.json"], ["adapter_model.safetensors"]),
        (
            ["x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"],
            ["x-00001-of-00002.safetensors", "x-00002-of-00002.safetensors"],
        ),
    ],
)
def test_a_directory_means_the_checkpoint_in_it(
    tmp_path: Path, files: list[str], chosen: list[str]
) -> None:
    assert names(touch(tmp_path, *files)) == chosen


def test_a_home_directory_is_spelled_with_a_tilde(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(touch(tmp_path, "model.safetensors")))
    assert names("~") == ["model.safetensors"]


def test_two_checkpoints_in_a_directory_are_not_guessed_at(tmp_path: Path) -> None:
    touch(tmp_path, "a.safetensors", "b.safetensors")
    with pytest.raises(CheckpointInvalid, match=r"several.*a\.safetensors, b\.safetensors.*Name"):
        locate(tmp_path)
    (tmp_path / "diffusion.safetensors.index.json").touch()
    (tmp_path / "other.safetensors.index.json").touch()
    with pytest.raises(CheckpointInvalid, match=r"diffusion\.safetensors\.index\.json"):
        locate(tmp_path)


def test_a_shard_that_did_not_arrive_is_named(tmp_path: Path) -> None:
    save_sharded(tmp_path, PARTS)
    (tmp_path / "model-00002-of-00002.safetensors").unlink()
    with pytest.raises(CheckpointNotFound, match=r"model-00002-of-00002.*missing.*Download"):
        locate(tmp_path)
    (tmp_path / "model.safetensors.index.json").unlink()
    touch(tmp_path, "model-00001-of-00002.safetensors")
    shutil.copy(
        tmp_path / "model-00001-of-00002.safetensors",
        tmp_path / "model-00003-of-00003.safetensors",
    )
    with pytest.raises(CheckpointInvalid, match="several"):
        locate(tmp_path)


def test_a_numbered_shard_that_did_not_arrive_is_named_without_an_index(tmp_path: Path) -> None:
    touch(tmp_path, "x-00001-of-00003.safetensors", "x-00003-of-00003.safetensors")
    with pytest.raises(CheckpointNotFound, match=r"x-00002-of-00003\.safetensors is missing"):
        locate(tmp_path)


@pytest.mark.parametrize("name", ["model.onnx", "model.h5", "model.gguf"])
def test_other_formats_are_named_with_the_way_out(tmp_path: Path, name: str) -> None:
    touch(tmp_path, name)
    for source in (tmp_path, tmp_path / name):
        with pytest.raises(CheckpointInvalid, match=r"neither a safetensors file nor.*convert it"):
            locate(source)


def test_an_empty_directory_and_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="holds no safetensors file"):
        locate(tmp_path)
    with pytest.raises(FileNotFoundError, match="There is no checkpoint at"):
        locate(tmp_path / "absent.safetensors")


def test_other_protocols_are_refused_with_the_way_out() -> None:
    with pytest.raises(LoadError, match=r"only http, https and hf addresses.*Download"):
        locate("s3://bucket/model")


@pytest.mark.parametrize("source", ["model.safetensors", "org/model.safetensors", "a/b/c", "x.pt"])
def test_a_files_name_is_not_asked_for_on_the_hub(
    source: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
    with pytest.raises(CheckpointNotFound, match="There is no checkpoint at"):
        locate(source)


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        ("{", "not JSON"),
        ("[]", "no weight_map"),
        ('{"weight_map": []}', "no weight_map"),
        ('{"weight_map": {"a": 1}}', "places 'a' in '1'"),
        ('{"weight_map": {"a": ""}}', "places 'a'"),
        ('{"weight_map": {"a": "../a.safetensors"}}', r"places 'a' in '\.\./a"),
        ('{"weight_map": {"a": "/etc/passwd"}}', "places 'a' in '/etc/passwd'"),
        ('{"weight_map": {"a": "x\\u0000"}}', "places 'a'"),
        ("[" * 100_000, "not JSON"),
    ],
)
def test_a_bad_index_says_why(tmp_path: Path, body: str, reason: str) -> None:
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(body)
    with pytest.raises(CheckpointInvalid, match=reason):
        locate(index)


def test_an_index_may_name_shards_in_folders_below(tmp_path: Path) -> None:
    touch(tmp_path / "parts", "x.safetensors")
    index = tmp_path / "model.safetensors.index.json"
    index.write_text(json.dumps({"weight_map": {"a": "parts/x.safetensors"}}))
    assert locate(index).files == (tmp_path / "parts" / "x.safetensors",)


def test_a_huge_index_is_not_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    index = tmp_path / "model.safetensors.index.json"
    with index.open("wb") as file:
        file.truncate(1 << 40)
    with pytest.raises(CheckpointInvalid, match="more than 100000000 bytes"):
        locate(index)


def test_a_downloaded_model_is_found_by_its_id(cache: Path) -> None:
    for source in ("org/tiny", "hf://org/tiny", "org/tiny@main", f"org/tiny@{cache.name}"):
        found = locate(source)
        assert (found.title, found.files) == ("org/tiny", (cache / "model.safetensors",))


def test_the_cache_is_the_one_huggingface_hub_uses(cache: Path) -> None:
    import huggingface_hub

    path = huggingface_hub.snapshot_download(
        "org/tiny", cache_dir=hub.cache(), local_files_only=True
    )
    assert hub.snapshot("org/tiny") == Path(path)


def test_where_the_cache_is(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", "/home/ada")
    assert hub.cache() == Path("/home/ada/.cache/huggingface/hub")
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert hub.cache() == Path("/x/huggingface/hub")
    monkeypatch.setenv("HF_HOME", "/h")
    assert hub.cache() == Path("/h/hub")
    monkeypatch.setenv("HUGGINGFACE_HUB_CACHE", "/old")
    assert hub.cache() == Path("/old")
    monkeypatch.setenv("HF_HUB_CACHE", "~/new")
    assert hub.cache() == Path("/home/ada/new")


def test_a_model_that_was_not_downloaded_says_how(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CheckpointNotFound, match=r"hub's cache.*hf download org/other"):
        locate("org/other")
    with pytest.raises(CheckpointNotFound, match="hf download org/tiny"):
        locate("org/tiny@absent")


def test_a_ref_that_points_elsewhere_is_not_followed(cache: Path) -> None:
    (cache.parent.parent / "refs" / "main").write_text("../../../../etc")
    assert hub.snapshot("org/tiny") is None


@given(st.text(max_size=30))
def test_no_source_is_read_as_an_id_that_leaves_the_cache(source: str) -> None:
    parsed = hub.parse(source)
    if parsed is not None:
        assert ".." not in parsed[0]
        assert ".." not in parsed[1]
        assert parsed[0].count("/") <= 1
