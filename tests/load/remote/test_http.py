"""What networks and servers do to a load, and whom secrets are told."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
import torch
from torch import nn

from tests.load.hubs import check, descriptors, hf_cache
from tests.patience import PATIENCE
from tests.servers.hub import Hub
from zerostart_jupyter.core.errors import (
    Cancelled,
    CheckpointChanged,
    CheckpointInvalid,
    CheckpointNotFound,
    DownloadFailed,
    LoadError,
)
from zerostart_jupyter.load import load, load_into

MIB = 1 << 20


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
