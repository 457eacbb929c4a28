"""A hub of a company's own: TLS by a private authority, an endpoint, a token, a revision."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import trustme
from safetensors.torch import save

from tests.servers.hub import Hub
from zerostart_jupyter.core.errors import DownloadFailed
from zerostart_jupyter.core.events import Event
from zerostart_jupyter.core.events import Hub as Events
from zerostart_jupyter.load import load

TOKEN = "hf_a1b2c3d4e5f6"
PRIVATE = "zerostart-tests: a private authority"


@pytest.fixture
def authority() -> trustme.CA:
    return trustme.CA(organization_name=PRIVATE)


@pytest.fixture
def hub(
    tensors: dict[str, torch.Tensor], authority: trustme.CA, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Hub]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    with Hub({"model.safetensors": save(tensors), "config.json": b"{}"}, tls=context) as served:
        monkeypatch.setenv("HF_ENDPOINT", served.url)
        yield served


@pytest.fixture
def trusted(authority: trustme.CA, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    authority.cert_pem.write_to_path(str(tmp_path / "authority.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "authority.pem"))


def equal(weights: object, tensors: dict[str, torch.Tensor]) -> bool:
    found = dict(weights.items())  # type: ignore[attr-defined]
    return set(found) == set(tensors) and all(
        torch.equal(found[name], tensor) for name, tensor in tensors.items()
    )


@pytest.mark.parametrize("revision", ["", "@v1"])
@pytest.mark.usefixtures("trusted")
def test_a_private_model_at_a_revision(
    hub: Hub,
    tensors: dict[str, torch.Tensor],
    revision: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(0)
    hub.behaviour.token = TOKEN
    hub.behaviour.redirect = True
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    told: list[Event] = []
    events = Events(interval=0)
    events.subscribe(told.extend)
    weights = load(f"org/tiny{revision}", device="cpu", hub=events)
    assert equal(weights, tensors)
    assert (tmp_path / "hf/hub/models--org--tiny/refs" / (revision[1:] or "main")).is_file()
    # The token goes to the hub, and neither further nor anywhere it could be read later.
    with_it = {each.host for each in hub.requests if "Authorization" in each.headers}
    assert with_it == {"hub"}
    assert {each.host for each in hub.requests} == {"hub", "cdn"}
    shown = capfd.readouterr()
    places = [shown.out, shown.err, caplog.text, repr(told), repr(weights), repr(vars(weights))]
    assert not any(TOKEN in place for place in places)
    for path in tmp_path.rglob("*"):
        assert TOKEN not in path.name
        assert not path.is_file() or TOKEN.encode() not in path.read_bytes()


@pytest.mark.usefixtures("trusted")
def test_what_a_cut_left_is_not_fetched_again(hub: Hub, tensors: dict[str, torch.Tensor]) -> None:
    hub.behaviour.cut_after = 300_000
    hub.behaviour.cuts = 5
    assert equal(load("org/tiny", device="cpu"), tensors)
    assert hub.behaviour.cuts == 0
    ranges = [each.headers.get("Range") for each in hub.asked("GET", "model.safetensors")]
    assert all(each is not None for each in ranges)
    # Within a piece or two: what was under way when a connection broke may come once more.
    assert hub.sent < 1.25 * len(hub.files["model.safetensors"])


def test_an_authority_that_is_not_trusted_is_one_line_with_its_remedy(hub: Hub) -> None:
    with pytest.raises(DownloadFailed, match=r"cannot be trusted: .*SSL_CERT_FILE") as raised:
        load("org/tiny", device="cpu")
    assert "\n" not in str(raised.value)
    assert hub.requests == []


@pytest.mark.usefixtures("trusted")
def test_a_token_that_is_wrong_is_not_repeated(hub: Hub, monkeypatch: pytest.MonkeyPatch) -> None:
    hub.behaviour.token = "hf_another"
    monkeypatch.setenv("HF_TOKEN", TOKEN)
    with pytest.raises(DownloadFailed, match="does not exist, or is private") as raised:
        load("org/tiny", device="cpu")
    seen: BaseException | None = raised.value
    while seen is not None:
        assert TOKEN not in f"{seen} {seen!r} {seen.args}"
        seen = seen.__cause__ or seen.__context__
