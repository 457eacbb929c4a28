from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save, save_file
from torch import nn

from tests.load.files import save_sharded
from tests.servers.hub import COMMIT, PATIENCE, Hub
from zerostart_jupyter.core.errors import (
    Cancelled,
    CheckpointChanged,
    CheckpointInvalid,
    CheckpointNotFound,
    DownloadFailed,
    LoadError,
)
from zerostart_jupyter.core.flocks import Flock
from zerostart_jupyter.core.references import references
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.load import load, load_into

MIB = 1 << 20


@pytest.fixture(autouse=True)
def own_caches(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in list(os.environ):
        if name.startswith(("HF_", "HUGGING", "TRANSFORMERS_OFF")) or "proxy" in name.lower():
            monkeypatch.delenv(name)
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("ZEROSTART_CACHE", str(tmp_path / "zs"))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("ZS_CHUNK_MB", "1")
    monkeypatch.setenv("ZS_HTTP_TIMEOUT", "30")


@pytest.fixture(scope="module")
def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {f"row.{number}": torch.randn(512, 1024, generator=generator) for number in range(4)}


@pytest.fixture
def single(tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    """Eight MiB in one file, and files that are nobody's weights."""
    data = save(tensors, metadata={"format": "pt"})
    with Hub({"model.safetensors": data, "config.json": b"{}", "README.md": b"tiny"}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


@pytest.fixture
def sharded(
    tensors: dict[str, torch.Tensor], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    names = list(tensors)
    shards = [{each: tensors[each] for each in part} for part in (names[:1], names[1:])]
    folder = save_sharded(tmp_path / "made", shards).parent
    with Hub({path.name: path.read_bytes() for path in folder.iterdir()}) as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.url)
        yield hub


def check(found: dict[str, torch.Tensor] | object, expected: dict[str, torch.Tensor]) -> None:
    assert isinstance(found, dict) or hasattr(found, "items")
    got = dict(found.items())  # type: ignore[attr-defined]
    assert set(got) == set(expected)
    for name, tensor in got.items():
        assert torch.equal(tensor, expected[name]), name


def descriptors(hub: Hub) -> set[str]:
    """What this process has open, without the servers' ends of connections."""
    found = set()
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            if stat.S_ISSOCK(entry.stat().st_mode):
                with socket.socket(fileno=os.dup(int(entry.name))) as end:
                    if end.family == socket.AF_INET and end.getsockname()[1] in hub.ports:
                        continue
            found.add(entry.name)
    return found


def hf_cache(tmp_path: Path) -> Path:
    return tmp_path / "hf" / "hub"


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
        import huggingface_hub

        single.behaviour.redirect = redirect
        before = descriptors(single)
        weights = load("org/tiny", device="cpu", reader=reader)
        check(weights, tensors)
        assert weights.reader == "remote"
        assert weights.statistics["downloaded_bytes"] == len(single.files["model.safetensors"])
        assert weights.statistics["local_reader"] == ("mmap" if reader == "auto" else "direct")
        assert descriptors(single) == before

        huggingface_hub.hf_hub_download(
            "org/tiny",
            "model.safetensors",
            cache_dir=tmp_path / "theirs",
            endpoint=single.url,
            token=False,
        )
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
        import huggingface_hub

        huggingface_hub.hf_hub_download(
            "org/tiny",
            "model-00001-of-00002.safetensors",
            cache_dir=hf_cache(tmp_path),
            endpoint=sharded.url,
            token=False,
        )
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
        import huggingface_hub

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
        huggingface_hub.hf_hub_download(
            "org/tiny",
            "model.safetensors",
            cache_dir=tmp_path / "theirs",
            endpoint=single.url,
            token=False,
        )
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


class TestFaults:
    @pytest.mark.parametrize("mistake", [{"dtype": "typo"}, {"reader": "typo"}])
    def test_a_mistake_in_the_call_leaves_nothing_open_and_the_next_call_works(
        self, single: Hub, tensors: dict[str, torch.Tensor], mistake: dict[str, str]
    ) -> None:
        module = nn.Module()
        module.row = nn.ParameterList(torch.empty(512, 1024) for _ in tensors)
        before = descriptors(single)
        with pytest.raises(LoadError, match="'typo'"):
            load_into(module, "org/tiny", **mistake)  # type: ignore[arg-type]
        assert descriptors(single) == before
        load_into(module, "org/tiny", device="cpu")
        check(module.state_dict(), tensors)

    def test_connections_that_are_cut(self, single: Hub, tensors: dict[str, torch.Tensor]) -> None:
        single.behaviour.cut_after = 300_000
        single.behaviour.cuts = 9
        check(load("org/tiny", device="cpu"), tensors)
        assert single.behaviour.cuts == 0

    def test_a_connection_that_stalls(
        self, single: Hub, tensors: dict[str, torch.Tensor], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("ZS_HTTP_TIMEOUT", "0.5")
        single.behaviour.stalls = 2
        check(load("org/tiny", device="cpu"), tensors)

    def test_answers_that_ask_for_patience(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        single.behaviour.answers = [(503, {}), (429, {"Retry-After": "0"}), (500, {})]
        check(load("org/tiny", device="cpu"), tensors)

    def test_a_network_that_is_gone(
        self, single: Hub, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        from zerostart_jupyter.load import http

        monkeypatch.setattr(http, "PAUSES", (0.001, 0.001))
        monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:1")
        with pytest.raises(DownloadFailed, match=r"refused.*Check the network and the proxy"):
            load("org/tiny", device="cpu")

    def test_an_address_of_a_redirect_expires(
        self, single: Hub, tensors: dict[str, torch.Tensor]
    ) -> None:
        single.behaviour.redirect = True
        single.behaviour.redirect_uses = 3
        check(load("org/tiny", device="cpu"), tensors)

    @pytest.mark.parametrize("redirect", [False, True])
    def test_a_server_without_ranges(
        self, single: Hub, tensors: dict[str, torch.Tensor], redirect: bool
    ) -> None:
        single.behaviour.ranges = False
        single.behaviour.redirect = redirect
        single.behaviour.cut_after = 3 * MIB
        single.behaviour.cuts = 1
        check(load("org/tiny", device="cpu"), tensors)
        assert single.sent < 3 * len(single.files["model.safetensors"])

    def test_a_file_that_changes_meanwhile(self, single: Hub) -> None:
        before = descriptors(single)
        digest = "e" * 64
        single.behaviour.etags = [f'"{digest}"'] * 50
        with pytest.raises(CheckpointChanged, match="changed on the server"):
            load("org/tiny", device="cpu")
        assert descriptors(single) == before

    def test_a_server_that_lies_about_the_size(self, single: Hub) -> None:
        single.behaviour.total_lie = 1
        with pytest.raises(CheckpointChanged):
            load("org/tiny", device="cpu")

    @pytest.mark.parametrize(
        ("refusal", "error", "words"),
        [
            ((401, "RepoNotFound"), DownloadFailed, r"does not exist, or is private.*hf auth"),
            ((403, "GatedRepo"), DownloadFailed, r"is gated.*Ask for it"),
            ((403, ""), DownloadFailed, r"may not be read: the server answered 403 Forbidden"),
            ((404, "RevisionNotFound"), CheckpointNotFound, r"no model org/tiny at main"),
            ((410, ""), CheckpointNotFound, "Check the name"),
        ],
    )
    def test_refusals_are_one_line(
        self, single: Hub, refusal: tuple[int, str], error: type[LoadError], words: str
    ) -> None:
        single.behaviour.refusal = refusal
        with pytest.raises(error, match=words) as raised:
            load("org/tiny", device="cpu")
        assert "\n" not in str(raised.value)

    def test_a_repository_without_weights(self, single: Hub) -> None:
        del single.files["model.safetensors"]
        with pytest.raises(CheckpointNotFound, match=r"model org/tiny holds no safetensors"):
            load("org/tiny", device="cpu")

    def test_an_index_whose_shard_is_missing(self, sharded: Hub) -> None:
        before = descriptors(sharded)
        del sharded.files["model-00002-of-00002.safetensors"]
        with pytest.raises(CheckpointNotFound, match=r"no file model-00002-of-00002"):
            load("org/tiny", device="cpu")
        assert descriptors(sharded) == before

    def test_an_invalid_file(self, single: Hub) -> None:
        single.files["model.safetensors"] = b"\xff" * 4096
        with pytest.raises(CheckpointInvalid, match="not a valid safetensors file"):
            load("org/tiny", device="cpu")

    def test_a_resumed_file_that_lost_bytes_is_not_published(
        self, single: Hub, tmp_path: Path, tensors: dict[str, torch.Tensor]
    ) -> None:
        """As after a power cut: the journal is there and the bytes are not."""
        single.behaviour.hold = threading.Event()
        single.behaviour.hold_from = 5 * MIB
        weights = load("org/tiny", device="cpu", background=True)
        weights.wait(PATIENCE, names=["row.0", "row.1"])
        weights.cancel()
        with pytest.raises(Cancelled):
            weights.wait(PATIENCE)
        single.behaviour.hold.set()
        single.behaviour.hold = None
        (partial,) = hf_cache(tmp_path).glob("models--org--tiny/blobs/*.incomplete")
        with partial.open("r+b") as file:
            file.seek(MIB)
            file.write(bytes(4096))
        (journal,) = hf_cache(tmp_path).glob("models--org--tiny/blobs/*.journal")
        first, rest = journal.read_text().split("\n", 1)
        journal.write_text(f"{first.rpartition(' ')[0]} another-start\n{rest}")
        with pytest.raises(CheckpointInvalid, match=r"resumed and is not what the server has"):
            load("org/tiny", device="cpu")
        check(load("org/tiny", device="cpu"), tensors)


class TestCredentials:
    def test_the_token_goes_to_the_hub_and_no_further(
        self,
        single: Hub,
        tensors: dict[str, torch.Tensor],
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        single.behaviour.token = "hf_secret"
        single.behaviour.redirect = True
        with pytest.raises(DownloadFailed, match="private"):
            load("org/tiny", device="cpu")
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        single.requests.clear()
        check(load("org/tiny", device="cpu"), tensors)
        hosts = {each.host: "Authorization" in each.headers for each in single.requests}
        assert hosts == {"hub": True, "cdn": False}

    def test_a_token_left_by_a_login(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        (tmp_path / "hf").mkdir()
        (tmp_path / "hf" / "token").write_text("hf_secret\n")
        single.behaviour.token = "hf_secret"
        check(load("org/tiny", device="cpu"), tensors)

    def test_no_error_tells_a_secret(self, single: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("HF_TOKEN", "hf_secret")
        single.behaviour.refusal = (403, "")
        port = single.cdn.rpartition(":")[2]
        for source in (
            "org/tiny",
            f"http://me:secret@127.0.0.1:{port}/files/model.safetensors?Signature=secret",
        ):
            with pytest.raises(DownloadFailed) as raised:
                load(source, device="cpu")
            assert "secret" not in str(raised.value)

    def test_an_address_is_asked_with_its_own_credentials(
        self, single: Hub, tensors: dict[str, torch.Tensor], tmp_path: Path
    ) -> None:
        (tmp_path / "netrc").write_text("machine 127.0.0.1 login me password pw\n")
        (tmp_path / "netrc").chmod(0o600)
        check(load(single.address("model.safetensors"), device="cpu"), tensors)
        assert all(each.headers["Authorization"] == "Basic bWU6cHc=" for each in single.requests)


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
