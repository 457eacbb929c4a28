"""Weights that are not here yet: used while they come, kept in the hub's own layout, resumed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file

from tests.load.hubs import check, descriptors, fetched_by_theirs, hf_cache
from tests.patience import PATIENCE
from tests.servers.hub import COMMIT, Hub
from zerostart_jupyter.core.errors import (
    Cancelled,
    CheckpointInvalid,
    CheckpointNotFound,
    LoadError,
)
from zerostart_jupyter.core.flocks import Flock
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load

MIB = 1 << 20


def tree(root: Path) -> dict[str, str | bytes]:
    """Everything below a directory: files by content, links by where they lead."""
    found: dict[str, str | bytes] = {}
    for path in sorted(root.rglob("*")):
        if path.is_symlink():
            found[str(path.relative_to(root))] = os.readlink(path)
        elif path.is_file():
            found[str(path.relative_to(root))] = path.read_bytes()
    return found


class TestHubCache:
    @pytest.mark.parametrize("redirect", [False, True])
    @pytest.mark.parametrize("reader", ["auto", "direct"])
    def test_equal_and_left_as_huggingface_hub_leaves_it(
        self,
        single: Hub,
        tensors: dict[str, torch.Tensor],
        tmp_path: Path,
        redirect: bool,
        reader: str,
    ) -> None:

        single.behaviour.redirect = redirect
        before = descriptors(single)
        weights = load("org/tiny", device="cpu", reader=reader)
        check(weights, tensors)
        assert weights.reader == "remote"
        assert weights.statistics["downloaded_bytes"] == len(single.files["model.safetensors"])
        assert weights.statistics["local_reader"] == ("mmap" if reader == "auto" else "direct")
        assert descriptors(single) == before

        fetched_by_theirs(single, "model.safetensors", tmp_path / "theirs")
        theirs, ours = tree(tmp_path / "theirs"), tree(hf_cache(tmp_path))
        assert set(ours) == set(theirs)
        assert ours == theirs
        blob = next(hf_cache(tmp_path).glob("models--org--tiny/blobs/*"))
        other = next((tmp_path / "theirs").glob("models--org--tiny/blobs/*"))
        assert blob.stat().st_mode == other.stat().st_mode

    def test_huggingface_hub_takes_it_without_a_request_for_bytes(
        self, sharded: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        import huggingface_hub

        check(load("org/tiny", device="cpu"), tensors)
        sent = sharded.sent
        cache = hf_cache(tmp_path)
        found = huggingface_hub.snapshot_download(
            "org/tiny", cache_dir=cache, endpoint=sharded.url, token=False
        )
        assert sharded.sent == sent
        assert {path.name for path in Path(found).iterdir()} == set(sharded.files)
        scanned = huggingface_hub.scan_cache_dir(cache)
        assert not scanned.warnings
        assert not scanned.incomplete_files
        (repository,) = scanned.repos
        (revision,) = repository.revisions
        assert (repository.repo_id, revision.commit_hash) == ("org/tiny", COMMIT)
        assert revision.refs == {"main"}

    def test_we_take_what_huggingface_hub_left(
        self, sharded: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        import huggingface_hub

        huggingface_hub.snapshot_download(
            "org/tiny", cache_dir=hf_cache(tmp_path), endpoint=sharded.url, token=False
        )
        sent = sharded.sent
        weights = load("org/tiny", device="cpu")
        check(weights, tensors)
        assert (weights.reader, sharded.sent) == ("mmap", sent)

    def test_one_shard_here_and_one_to_come(
        self, sharded: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:

        fetched_by_theirs(sharded, "model-00001-of-00002.safetensors", hf_cache(tmp_path))
        weights = load("org/tiny", device="cpu")
        check(weights, tensors)
        expected = len(sharded.files["model-00002-of-00002.safetensors"])
        assert weights.statistics["downloaded_bytes"] == expected

    def test_a_second_load_asks_which_commit_and_nothing_else(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        load("org/tiny", device="cpu")
        single.requests.clear()
        check(load("org/tiny", device="cpu"), tensors)
        assert [each.path for each in single.requests] == ["/api/models/org/tiny/revision/main"]
        single.requests.clear()
        check(load(f"org/tiny@{COMMIT}", device="cpu"), tensors)
        assert single.requests == []

    def test_a_tag_is_another_ref_to_the_same_blobs(self, single: Hub, tmp_path: Path) -> None:
        load("org/tiny", device="cpu")
        sent = single.sent
        load("hf://org/tiny@v1", device="cpu")
        assert single.sent == sent
        refs = hf_cache(tmp_path) / "models--org--tiny" / "refs"
        assert {each.name: each.read_text() for each in refs.iterdir()} == {
            "main": COMMIT,
            "v1": COMMIT,
        }

    def test_its_own_address_is_the_model(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        check(load(f"{single.url}/org/tiny/blob/main/model.safetensors", device="cpu"), tensors)
        sent = single.sent
        check(load(f"{single.url}/org/tiny", device="cpu"), tensors)
        assert single.sent == sent
        assert (hf_cache(tmp_path) / "models--org--tiny" / "refs" / "main").exists()

    def test_offline_uses_the_cache_and_asks_nobody(
        self,
        single: Hub,
        tensors: dict[str, torch.Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        with pytest.raises(CheckpointNotFound, match="HF_HUB_OFFLINE is set"):
            load("org/tiny", device="cpu")
        monkeypatch.delenv("HF_HUB_OFFLINE")
        load("org/tiny", device="cpu")
        single.requests.clear()
        monkeypatch.setenv("HF_HUB_OFFLINE", "yes")
        check(load("org/tiny", device="cpu"), tensors)
        assert single.requests == []

    def test_a_hub_that_is_down_does_not_stand_in_the_way_of_the_cache(
        self,
        single: Hub,
        tensors: dict[str, torch.Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        load("org/tiny", device="cpu")
        single.behaviour.refusal = (401, "RepoNotFound")
        check(load("org/tiny", device="cpu"), tensors)

    def test_what_was_read_early_is_referred_to_like_any_file(self, single: Hub) -> None:
        weights = load("org/tiny", device="cpu")
        live = {each.name: each.reference for each in references().live()}
        for name in weights:
            assert live[name].path == weights.files[0]
            assert live[name].intact()

    def test_waits_while_another_holds_the_blob_and_takes_what_it_left(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:

        load("org/tiny", device="cpu")
        (blob,) = hf_cache(tmp_path).glob("models--org--tiny/blobs/*")
        etag = blob.name
        for path in hf_cache(tmp_path).glob("models--org--tiny/snapshots/*/*"):
            path.unlink()
        blob.unlink()
        lock = hf_cache(tmp_path) / ".locks" / "models--org--tiny" / f"{etag}.lock"
        held = Flock.on_file(lock)
        assert held is not None
        sent = single.sent
        done: list[object] = []
        loading = threading.Thread(target=lambda: done.append(load("org/tiny", device="cpu")))
        loading.start()
        fetched_by_theirs(single, "model.safetensors", tmp_path / "theirs")
        theirs = tmp_path / "theirs" / "models--org--tiny" / "blobs" / etag
        os.link(theirs, blob)
        held.release()
        loading.join(PATIENCE)
        check(done[0], tensors)
        assert single.sent - sent == len(single.files["model.safetensors"]), "fetched once"


class TestEarly:
    def test_a_tensor_is_usable_before_the_rest_has_come(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        single.behaviour.hold = threading.Event()
        single.behaviour.hold_from = 5 * MIB
        weights = load("org/tiny", device="cpu", background=True)
        assert torch.equal(weights["row.0"], tensors["row.0"])
        assert torch.equal(weights["row.1"], tensors["row.1"])
        assert not weights.done
        single.behaviour.hold.set()
        check(weights.wait(PATIENCE), tensors)
        assert weights.statistics["published"] == 1

    def test_a_demand_is_fetched_first(self, single: Hub) -> None:
        one = Settings.read(parallel_downloads=1)
        single.behaviour.hold = threading.Event()
        single.behaviour.hold_from = MIB
        weights = load("org/tiny", device="cpu", background=True, settings=one)
        assert single.reached.acquire(timeout=PATIENCE)
        asker = threading.Thread(target=lambda: weights["row.3"])
        demand, asked = weights._demand, threading.Event()

        def noted(names: object) -> None:
            demand(names)  # type: ignore[arg-type]
            asked.set()

        weights._demand = noted
        asker.start()
        assert asked.wait(PATIENCE)
        single.behaviour.hold.set()
        asker.join(PATIENCE)
        weights.wait(PATIENCE)
        starts = [
            int(each.headers["Range"].split("=")[1].split("-")[0])
            for each in single.asked("GET", "/resolve/")
        ]
        late = [start for start in starts if start >= 2 * MIB]
        assert late[0] >= 6 * MIB

    def test_cancel_keeps_what_came_and_the_next_load_fetches_the_rest(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        before = descriptors(single)
        single.behaviour.hold = threading.Event()
        single.behaviour.hold_from = 5 * MIB
        weights = load("org/tiny", device="cpu", background=True)
        weights.wait(PATIENCE, names=["row.0", "row.1"])
        assert single.reached.acquire(timeout=PATIENCE)
        weights.cancel()  # wakes readers that wait for a server which says nothing
        with pytest.raises(Cancelled):
            weights.wait(PATIENCE)
        assert descriptors(single) == before
        assert not list(hf_cache(tmp_path).glob("models--org--tiny/snapshots/*/*"))
        single.behaviour.hold.set()
        single.behaviour.hold = None
        again = load("org/tiny", device="cpu")
        check(again, tensors)
        assert again.statistics["downloaded_bytes"] <= 5 * MIB
        assert not list(hf_cache(tmp_path).glob("models--org--tiny/blobs/*.incomplete"))

    def test_control_c_while_headers_are_fetched(self, single: Hub) -> None:
        before = descriptors(single)
        single.behaviour.hold = threading.Event()

        def press() -> None:
            assert single.reached.acquire(timeout=PATIENCE)
            os.kill(os.getpid(), signal.SIGINT)

        presser = threading.Thread(target=press)
        presser.start()
        with pytest.raises(KeyboardInterrupt):
            load("org/tiny", device="cpu")
        presser.join(PATIENCE)
        assert descriptors(single) == before


SCRIPT = """
import sys
from zerostart_jupyter.load import load, load_into
weights = load(sys.argv[1], device="cpu", background=True)
weights["row.0"]
print("here", flush=True)
print(weights.wait().statistics["downloaded_bytes"] if weights.reader == "remote" else 0)
"""


def other_process(source: str) -> subprocess.Popen[str]:
    environ = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, sys.path))}
    return subprocess.Popen(
        [sys.executable, "-c", SCRIPT, source], env=environ, stdout=subprocess.PIPE, text=True
    )


class TestProcesses:
    def test_killed_and_resumed(self, single: Hub, tensors: dict[str, torch.Tensor]) -> None:
        single.behaviour.hold = threading.Event()
        single.behaviour.hold_from = 4 * MIB
        with other_process("org/tiny") as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "here\n"
            process.kill()
        single.behaviour.hold.set()
        single.behaviour.hold = None
        weights = load("org/tiny", device="cpu")
        check(weights, tensors)
        downloaded = weights.statistics["downloaded_bytes"]
        assert isinstance(downloaded, int)
        assert downloaded < len(single.files["model.safetensors"]) - 2 * MIB + 1

    def test_two_at_once_fetch_once(self, single: Hub) -> None:
        with other_process("org/tiny") as one, other_process("org/tiny") as two:
            outs = [each.communicate(timeout=PATIENCE)[0].split() for each in (one, two)]
        assert [out[0] for out in outs] == ["here", "here"]
        whole = len(single.files["model.safetensors"])
        assert sorted(int(out[1]) for out in outs) == [0, whole]
        assert single.sent == whole


class TestAddress:
    def test_streams_and_is_kept(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        before = descriptors(single)
        source = single.address("model.safetensors")
        weights = load(f"{source}?Signature=one", device="cpu")
        check(weights, tensors)
        assert weights.title == "model.safetensors"
        assert weights.reader == "remote"
        sent = single.sent
        again = load(f"{source}?Signature=two", device="cpu")
        check(again, tensors)
        assert again.reader == "mmap"
        assert single.sent - sent <= 1, "one byte, to ask which file it is"
        assert descriptors(single) == before
        assert not hf_cache(tmp_path).exists()

    def test_an_index_brings_its_shards(
        self, sharded: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        check(load(sharded.address("model.safetensors.index.json"), device="cpu"), tensors)

    def test_another_file_at_the_same_address_is_another(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        load(single.address("model.safetensors"), device="cpu")
        other = {name: tensor + 1 for name, tensor in tensors.items()}
        single.files["model.safetensors"] = save(other, metadata={"format": "pt"})
        check(load(single.address("model.safetensors"), device="cpu"), other)

    def test_without_a_validator_nothing_old_is_believed(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        single.behaviour.validator = False
        load(single.address("model.safetensors"), device="cpu")
        other = {name: tensor + 1 for name, tensor in tensors.items()}
        single.files["model.safetensors"] = save(other, metadata={"format": "pt"})
        check(load(single.address("model.safetensors"), device="cpu"), other)

    def test_nothing_there(self, single: Hub) -> None:
        with pytest.raises(CheckpointNotFound, match=r"There is no file http://127.*404"):
            load(single.address("other.safetensors"), device="cpu")

    def test_other_protocols_are_refused(self) -> None:
        with pytest.raises(LoadError, match="only http, https and hf"):
            load("s3://bucket/model.safetensors", device="cpu")

    def test_a_full_disk_is_said_before_a_byte_is_fetched(
        self, single: Hub, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        real = os.fstatvfs

        def full(descriptor: int) -> os.statvfs_result:
            values = list(real(descriptor))
            values[4] = 0
            return os.statvfs_result(values)

        monkeypatch.setattr(os, "fstatvfs", full)
        before = descriptors(single)
        with pytest.raises(LoadError, match=r"needs 0.01 GiB.*Make room"):
            load(single.address("model.safetensors"), device="cpu")
        assert descriptors(single) == before


def test_the_index_on_the_hub_is_read_like_any(sharded: Hub) -> None:
    body = json.loads(sharded.files["model.safetensors.index.json"])
    body["weight_map"]["row.0"] = "../../outside.safetensors"
    sharded.files["model.safetensors.index.json"] = json.dumps(body).encode()
    with pytest.raises(CheckpointInvalid, match=r"places 'row\.0' in"):
        load("org/tiny", device="cpu")


def test_the_reference_is_what_was_served(single: Hub, tmp_path: Path) -> None:
    path = tmp_path / "served.safetensors"
    path.write_bytes(single.files["model.safetensors"])
    check(load("org/tiny", device="cpu"), load_file(path))
    save_file(dict(load("org/tiny", device="cpu")), tmp_path / "again.safetensors")
