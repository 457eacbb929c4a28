"""Whole installs over links and servers that misbehave."""

from __future__ import annotations

import contextlib
import email.utils
import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import Wheel, make, noise
from tests.servers.index import Behaviour, Index
from zerostart_jupyter.core.errors import (
    DigestMismatch,
    NetworkError,
    WheelRejected,
    ZerostartError,
)
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import IndexOptions, gather, install, plan, retries, source
from zerostart_jupyter.install.connections import Connections
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.installation import Installation

BODY = noise(3 << 20)


@pytest.fixture(autouse=True)
def _impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retries, "_FIRST_PAUSE", 0.01)


@pytest.fixture
def wheel(index: Index, bring: Bring, settings: Settings) -> Wheel:
    """A wheel of three segments, resolved while the network was fine."""
    made = make("zs-net", files={"zs_net.py": b"X = 1\n", "zs_net.bin": BODY})
    publish(index, made)
    request = gather(["zs-net"], index=IndexOptions(index_url=index.url))
    plan(request, settings=settings)
    index.requests.clear()
    index.ranges.clear()
    index.sent = 0
    return made


def whole(found: Installation) -> bool:
    return (found.site_packages / "zs_net.bin").read_bytes() == BODY


def test_connections_that_break_are_taken_up_where_they_broke(
    index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.of(wheel).cut_after = 300_000
    assert whole(bring("zs-net"))
    assert index.sent < 1.5 * len(wheel.data)


def test_a_server_without_ranges_sends_it_once(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).ranges = False
    assert whole(bring("zs-net"))
    assert index.sent < 1.2 * len(wheel.data)


def test_a_server_without_ranges_that_breaks(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).ranges = False
    index.of(wheel).cut_after = 2 << 20
    with pytest.raises(NetworkError, match="zs_net"):
        bring("zs-net")  # it never gets further than 2 MiB
    index.of(wheel).cut_after = None
    assert whole(bring("zs-net"))


def test_no_length_is_needed(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).length = False
    assert whole(bring("zs-net"))


def test_no_length_and_no_ranges(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).length = False
    index.of(wheel).ranges = False
    assert whole(bring("zs-net"))


def test_no_suffix_ranges(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).suffix_ranges = False
    assert whole(bring("zs-net"))


def test_a_compressed_transfer_is_undone(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).ranges = False
    index.of(wheel).gzip = True
    assert whole(bring("zs-net"))


def test_ranges_of_a_compressed_transfer_are_not_believed(
    index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.of(wheel).gzip = True
    assert whole(bring("zs-net"))


def test_a_compressed_transfer_that_grows_without_end_is_left(index: Index) -> None:
    bomb = Wheel("zs-bomb", "1.0", "zs_bomb-1.0-py3-none-any.whl", bytes(140 << 20))
    publish(index, bomb)
    index.of(bomb).gzip = True
    largest = given = 0

    def write(at: int, block: memoryview) -> None:
        nonlocal largest, given
        largest, given = max(largest, len(block)), given + len(block)

    with (
        contextlib.closing(Connections(Indexes(), 5)) as connections,
        pytest.raises(NetworkError, match=r"zs_bomb.*its content coding makes"),
    ):
        source.HttpSource(connections, index.file_url(bomb), threading.Event()).spool(write)
    assert largest <= source.BLOCK
    assert given <= 101 << 20
    assert len(index.ranges) == 1  # which is no reason to ask again


def test_a_damaged_compressed_transfer_is_told_as_one(
    index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.of(wheel).ranges = False
    index.of(wheel).gzip = index.of(wheel).damage = True
    with pytest.raises(NetworkError, match="content coding is damaged"):
        bring("zs-net")


@pytest.mark.parametrize("status", [429, 500, 503])
def test_a_busy_server_is_asked_again(
    status: int, index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.of(wheel).answers = [(status, {"Retry-After": "0"})] * 3
    assert whole(bring("zs-net"))
    assert index.of(wheel).answers == []


class _Noting(threading.Event):
    def __init__(self) -> None:
        super().__init__()
        self.waited: list[float] = []

    def wait(self, timeout: float | None = None) -> bool:
        self.waited.append(timeout or 0)
        return False


@pytest.mark.parametrize("form", ["7", "date"])
def test_retry_after_is_honoured(form: str, index: Index, wheel: Wheel) -> None:
    if form == "date":
        form = email.utils.formatdate(time.time() + 8, usegmt=True)
    index.of(wheel).answers = [(503, {"Retry-After": form})]
    stop = _Noting()
    connections = Connections(Indexes(), 5)
    try:
        tail = source.HttpSource(connections, index.file_url(wheel), stop).tail(100)
    finally:
        connections.close()
    assert tail.data == wheel.data[-100:]
    assert len(stop.waited) == 1
    assert 6 < stop.waited[0] <= 8


@pytest.mark.parametrize("form", ["\u00b2", "9" * 5000, "-1", "1e3", "Mon, 99 Foo", ""])
def test_a_retry_after_that_says_nothing_is_passed_over(
    form: str, index: Index, wheel: Wheel
) -> None:
    index.of(wheel).answers = [(503, {"Retry-After": form})]
    stop = _Noting()
    with contextlib.closing(Connections(Indexes(), 5)) as connections:
        tail = source.HttpSource(connections, index.file_url(wheel), stop).tail(100)
    assert tail.data == wheel.data[-100:]
    assert len(stop.waited) == 1
    assert stop.waited[0] < 1


def test_a_busy_server_is_given_up_in_the_end(
    index: Index, wheel: Wheel, bring: Bring, store: Store
) -> None:
    index.of(wheel).answers = [(503, {})] * 1000
    with pytest.raises(NetworkError, match="503") as caught:
        bring("zs-net")
    assert "\n" not in str(caught.value)
    assert store.entries("wheels") == store.entries("environments") == []


def test_a_refusal_is_not_repeated(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).answers = [(403, {})] * 1000
    with pytest.raises(NetworkError, match="403") as caught:
        bring("zs-net")
    assert "netrc" in caught.value.remedy
    assert index.requests[f"/files/{wheel.filename}"] == 1


def test_a_stalled_connection_is_left(
    index: Index, wheel: Wheel, bring: Bring, settings: Settings
) -> None:
    index.of(wheel).stalls = 2
    patient = settings.with_(http_timeout=0.3)
    request = gather(["zs-net"], index=IndexOptions(index_url=index.url))
    assert whole(install(request=request, settings=patient, hub=Hub()))


def test_a_cancel_does_not_wait_for_a_server_that_says_nothing(
    index: Index, wheel: Wheel, bring: Bring, settings: Settings
) -> None:
    index.of(wheel).hold = threading.Event()
    found = bring("zs-net", wait=False, settings=settings.with_(http_timeout=3600.0))
    deadline = time.monotonic() + 60
    while not any(wanted and not wanted.startswith("bytes=-") for _, wanted in index.ranges):
        assert time.monotonic() < deadline
        time.sleep(0.01)
    found.cancel()
    with pytest.raises(ZerostartError, match="cancelled"):
        found.wait(60)


def test_a_changed_file_is_begun_anew(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).etags = ['"old"', '"old"']
    assert whole(bring("zs-net"))


def test_a_mirror_whose_servers_disagree_is_asked_for_the_whole(
    index: Index, wheel: Wheel, bring: Bring
) -> None:
    """Each of them has an ETag of its own for the same bytes; the digest decides."""
    index.of(wheel).etags = [f'"{n}"' for n in range(100)]
    assert whole(bring("zs-net"))


def test_ranges_that_are_there_only_now_and_then(
    index: Index, wheel: Wheel, bring: Bring, settings: Settings
) -> None:
    index.of(wheel).ranges_served = 2
    one_after_the_other = replace(settings, parallel_downloads=1)
    assert whole(bring("zs-net", settings=one_after_the_other))
    asked = [wanted for path, wanted in index.ranges if path.startswith("/files/")]
    assert asked.count(None) == 1
    assert asked[-1] is None


def test_other_content_under_the_same_name_is_refused(
    index: Index, wheel: Wheel, bring: Bring, store: Store
) -> None:
    other = make("zs-net", files={"zs_net.py": b"X = 2\n", "zs_net.bin": BODY})
    publish(index, other)
    with pytest.raises(DigestMismatch):
        bring("zs-net")
    assert store.entries("wheels") == []


def test_a_lying_total_is_not_believed(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).total_lie = 1000
    assert whole(bring("zs-net"))  # the range does not reach the end it claims: read as a whole


def test_a_shifted_range_is_not_believed(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).shift = -10
    with pytest.raises((NetworkError, DigestMismatch)):
        bring("zs-net")


ODD = {
    "none": {"content_range": ""},
    "no total": {"content_range": "bytes 0-9/*"},
    "another unit": {"content_range": "items 0-9/10"},
    "backwards": {"content_range": "bytes 9-0/10"},
    "more digits than a number has": {"content_range": f"bytes 0-9/{'9' * 5000}"},
    "parts": {"multipart": True},
}


@pytest.mark.parametrize("before", [0, 1, 2])
@pytest.mark.parametrize("odd", ODD)
def test_a_range_that_does_not_say_what_it_is_is_not_believed(
    odd: str, before: int, index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.behaviour[wheel.filename] = Behaviour(true_ranges=before, **ODD[odd])  # type: ignore[arg-type]
    assert whole(bring("zs-net"))
    assert (f"/files/{wheel.filename}", None) in index.ranges  # had as a whole


@pytest.mark.parametrize("ranges", [True, False])
def test_connections_that_are_reset_are_no_end(
    ranges: bool, index: Index, wheel: Wheel, bring: Bring
) -> None:
    index.of(wheel).ranges = ranges
    index.of(wheel).resets = 4
    assert whole(bring("zs-net"))
    assert index.of(wheel).resets == 0


def test_a_server_that_bears_less_is_asked_for_less_at_once(
    index: Index, bring: Bring, settings: Settings
) -> None:
    crowd, bears = 12, 4
    large = make("zs-net", files={"zs_net.bin": noise(24 << 20)})
    publish(index, large)
    many = settings.with_(parallel_downloads=crowd, no_head_start=True, window_mb=64)
    request = gather(["zs-net"], index=IndexOptions(index_url=index.url))
    plan(request, settings=many)
    how = index.of(large)
    how.most_at_once, how.pace, how.crowd = bears, 16 << 20, crowd
    found = bring("zs-net", settings=many)
    assert (found.site_packages / "zs_net.bin").read_bytes() == noise(24 << 20)
    peak = index.at_once.index(crowd)
    assert max(index.at_once) == crowd
    assert max(index.at_once[peak + 1 :]) <= crowd // 2


def test_redirects_are_followed_and_renewed(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).redirect = True
    assert whole(bring("zs-net"))
    assert index.requests[f"/files/{wheel.filename}"] == 1  # the target is asked directly


def test_an_expired_redirect_is_asked_for_again(index: Index, wheel: Wheel, bring: Bring) -> None:
    index.of(wheel).redirect = True
    index.of(wheel).redirect_uses = 2
    assert whole(bring("zs-net"))
    assert index.requests[f"/files/{wheel.filename}"] >= 2


def test_credentials_of_the_index_open_its_files(
    index: Index, wheel: Wheel, settings: Settings, bring: Bring
) -> None:
    index.of(wheel).password = "secret"
    with pytest.raises(NetworkError, match="401") as caught:
        bring("zs-net")
    assert "netrc" in caught.value.remedy
    url = index.url.replace("://", "://user:secret@")
    request = gather(["zs-net"], index=IndexOptions(index_url=url))
    found = install(request=request, settings=settings, hub=Hub())
    assert whole(found)
    kept = [path.read_bytes() for path in settings.cache.rglob("*.json")]
    assert not any(b"secret" in text for text in kept)


def test_netrc_opens_them_too(
    index: Index, wheel: Wheel, bring: Bring, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    index.of(wheel).password = "secret"
    file = tmp_path / "netrc"
    file.write_text("machine 127.0.0.1 login user password secret\n")
    file.chmod(0o600)
    monkeypatch.setenv("NETRC", str(file))
    assert whole(bring("zs-net"))


def test_what_arrived_before_a_failure_is_not_fetched_again(
    index: Index, bring: Bring, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerostart_jupyter.install import partial

    monkeypatch.setattr(partial, "WORTHWHILE", 1 << 20)
    monkeypatch.setattr(partial, "QUICK", 0.0)
    made = make("zs-kept", files={"zs_kept.py": b"", "zs_kept.bin": noise(6 << 20)})
    publish(index, made)
    index.of(made).hold = threading.Event()
    found = bring("zs-kept", wait=False, settings=settings.with_(parallel_downloads=1))
    found.cancel()
    index.of(made).hold = None
    with pytest.raises(Exception, match="cancelled"):
        found.wait(60)
    index.of(made).cut_after = 900_000  # less than a segment: every block is a broken one
    index.of(made).answers = []
    assert (bring("zs-kept").site_packages / "zs_kept.bin").stat().st_size == 6 << 20
    assert list((settings.cache / "partial").iterdir()) == []


def test_kept_bytes_that_are_wrong_are_found_out(
    index: Index, wheel: Wheel, bring: Bring, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerostart_jupyter.install import partial

    monkeypatch.setattr(partial, "WORTHWHILE", 1 << 20)
    monkeypatch.setattr(partial, "QUICK", 0.0)
    kept = partial.Partial(store, wheel.sha256, len(wheel.data))
    kept.write(0, memoryview(wheel.data)[: 1 << 20])
    kept.write(1 << 20, memoryview(bytes(1 << 20)))  # a power cut left zeros
    kept.close()
    assert whole(bring("zs-net"))


def test_kept_bytes_are_used(
    index: Index, wheel: Wheel, bring: Bring, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    from zerostart_jupyter.install import partial

    monkeypatch.setattr(partial, "WORTHWHILE", 1 << 20)
    monkeypatch.setattr(partial, "QUICK", 0.0)
    kept = partial.Partial(store, wheel.sha256, len(wheel.data))
    kept.write(0, memoryview(wheel.data)[: 2 << 20])
    kept.close()
    assert whole(bring("zs-net"))
    assert index.sent < len(wheel.data) - (2 << 20) + (64 << 10)


@pytest.mark.parametrize("lie", [-100, 100])
def test_a_length_that_contradicts_its_range_is_not_believed(
    lie: int, index: Index, wheel: Wheel, bring: Bring, settings: Settings
) -> None:
    index.of(wheel).length_lie = lie
    index.of(wheel).lies = 1
    request = gather(["zs-net"], index=IndexOptions(index_url=index.url))
    assert whole(install(request=request, settings=settings.with_(http_timeout=0.5), hub=Hub()))


@pytest.mark.parametrize("lie", [-100, 100])
def test_a_whole_file_of_another_length_is_refused(
    lie: int, index: Index, wheel: Wheel, store: Store, settings: Settings
) -> None:
    index.of(wheel).length_lie = lie
    index.of(wheel).ranges = False
    request = gather(["zs-net"], index=IndexOptions(index_url=index.url))
    with pytest.raises((NetworkError, WheelRejected)):
        install(request=request, settings=settings.with_(http_timeout=0.2), hub=Hub())
    assert store.entries("wheels") == store.entries("environments") == []
    assert not list(store.root.glob("*/.staging-*"))
