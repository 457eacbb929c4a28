"""Wheels that come while uv still resolves: uv is held up here until the test lets it go."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import Wheel, make, noise
from tests.patience import PATIENCE, eventually
from tests.servers.index import Index
from zerostart_jupyter.core.errors import Cancelled, ResolveError
from zerostart_jupyter.core.events import Hub
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import headstart, packers, resolve
from zerostart_jupyter.install.installation import Installation


@pytest.fixture(autouse=True)
def far(monkeypatch: pytest.MonkeyPatch) -> None:
    """The tests' index is near; it counts as one at some distance."""
    monkeypatch.setattr(headstart, "NEAR", 0.0)


class Uv:
    """uv, which waits for `go()`."""

    def __init__(self, folder: Path, uv: str) -> None:
        self._gate = folder / "gate"
        self.path = folder / "uv"
        self.path.write_text(
            f'#!/bin/sh\nwhile [ ! -e "{self._gate}" ]; do sleep 0.02; done\nexec "{uv}" "$@"\n'
        )
        self.path.chmod(0o755)

    def go(self) -> None:
        self._gate.touch()


@pytest.fixture
def uv(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Uv]:
    folder = tmp_path / "held"
    folder.mkdir()
    held = Uv(folder, resolve.find_uv())
    monkeypatch.setattr(resolve, "find_uv", lambda: str(held.path))
    yield held
    held.go()


class Going:
    """An install in a thread of its own."""

    def __init__(self, call: Callable[[], Installation]) -> None:
        self.result: Installation | None = None
        self.error: BaseException | None = None
        self._call = call
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            self.result = self._call()
        except BaseException as error:
            self.error = error

    def end(self) -> Installation:
        self._thread.join(PATIENCE)
        if self.error is not None:
            raise self.error
        assert self.result is not None
        return self.result


def body(name: str) -> dict[str, bytes]:
    return {f"{name}/__init__.py": b"", f"{name}/data": noise(3 << 20)}


def have(store: Store, wheel: Wheel) -> bool:
    return store.get("wheels", wheel.sha256) is not None


def ranges(index: Index, wheel: Wheel) -> list[str]:
    path = f"/files/{wheel.filename}"
    return [wanted for asked, wanted in index.ranges if asked == path and wanted is not None]


def test_what_was_asked_for_and_what_that_needs_come_before_uv_answers(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    top = make("zs-top", files=body("zs_top"), requires=["zs-below>=1", "zs-extra; extra == 'x'"])
    below, extra = make("zs-below", files=body("zs_below")), make("zs-extra", files=body("zs_e"))
    publish(index, top, below, extra)
    going = Going(lambda: bring("zs-top", activate=False))
    eventually(lambda: have(store, top) and have(store, below))
    assert not ranges(index, extra)  # nobody asked for that extra
    before = ranges(index, top) + ranges(index, below)
    uv.go()
    found = going.end()
    assert ranges(index, top) + ranges(index, below) == before  # fetched once
    assert sorted(name for name, _ in found.distributions) == ["zs-below", "zs-top"]
    assert (found.site_packages / "zs_below" / "data").read_bytes() == noise(3 << 20)
    assert found.bytes_downloaded == len(top.data) + len(below.data)


def test_a_wheel_that_is_on_its_way_goes_on_where_it_is(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    wheel = make("zs-half", files=body("zs_half"))
    publish(index, wheel)
    index.of(wheel).hold = hold = threading.Event()
    going = Going(lambda: bring("zs-half", activate=False, wait=False))
    eventually(lambda: len(ranges(index, wheel)) > 1)
    uv.go()
    found = going.end()
    asked = len(ranges(index, wheel))
    hold.set()
    assert (found.wait(PATIENCE).site_packages / "zs_half" / "data").exists()
    assert len(ranges(index, wheel)) <= asked + 2  # segments that were yet to be asked for
    assert len(set(ranges(index, wheel))) == len(ranges(index, wheel))


def test_a_wrong_guess_leaves_no_trace_in_the_environment(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    old = make("zs-pick", "1.0", files={"zs_pick/__init__.py": b"V = 1\n"})
    new = make("zs-pick", "2.0", files={"zs_pick/__init__.py": b"V = 2\n", "zs_pick/more.py": b""})
    bound = make("zs-bound", requires=["zs-pick<2"])
    publish(index, old, new, bound)
    going = Going(lambda: bring("zs-pick", "zs-bound", activate=False))
    eventually(lambda: have(store, new))
    uv.go()
    found = going.end()
    assert dict(found.distributions)["zs-pick"] == "1.0"
    assert [path.name for path in (found.site_packages / "zs_pick").iterdir()] == ["__init__.py"]


def test_a_wrong_guess_that_is_under_way_is_dropped(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    old = make("zs-pick", "1.0", files={"zs_pick/__init__.py": b"V = 1\n"})
    new = make("zs-pick", "2.0", files=body("zs_pick"))
    bound = make("zs-bound", requires=["zs-pick<2"])
    publish(index, old, new, bound)
    index.of(new).hold = threading.Event()  # its bytes never come
    going = Going(lambda: bring("zs-pick", "zs-bound", activate=False))
    eventually(lambda: len(ranges(index, new)) > 1)
    uv.go()
    index.of(new).hold.set()
    found = going.end()
    assert dict(found.distributions)["zs-pick"] == "1.0"
    assert list(store.path("wheels", "x" * 8).parent.glob(".staging*")) == []


def test_a_guess_that_cannot_be_used_is_no_error(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    good = make("zs-pick", "1.0", files={"zs_pick/__init__.py": b"V = 1\n"})
    bad = make("zs-pick", "2.0", files={"../escaped": b"", "zs_pick/__init__.py": b""})
    publish(index, good, bad, make("zs-bound", requires=["zs-pick<2"]))
    going = Going(lambda: bring("zs-pick", "zs-bound", activate=False))
    eventually(lambda: bool(ranges(index, bad)))
    uv.go()
    assert dict(going.end().distributions)["zs-pick"] == "1.0"
    assert not have(store, bad)


def test_a_link_that_failed_for_a_guess_is_tried_again(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    wheel = make("zs-again", files=body("zs_again"))
    publish(index, wheel)
    index.of(wheel).spare_wholes = True
    index.of(wheel).answers = [(404, {})]
    going = Going(lambda: bring("zs-again", activate=False))
    eventually(lambda: not index.of(wheel).answers)
    uv.go()
    assert (going.end().site_packages / "zs_again" / "data").exists()


def test_a_request_without_an_answer_ends_what_was_begun(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    wheel = make("zs-top", files=body("zs_top"), requires=["zs-nowhere"])
    publish(index, wheel)
    index.of(wheel).hold = threading.Event()
    going = Going(lambda: bring("zs-top", activate=False))
    eventually(lambda: len(ranges(index, wheel)) > 1)
    uv.go()
    with pytest.raises(ResolveError, match="zs-nowhere"):
        going.end()
    assert not [each for each in threading.enumerate() if each.name.startswith("zerostart-")]


def test_a_cancel_ends_uv_and_what_was_begun(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    wheel = make("zs-top", files=body("zs_top"))
    publish(index, wheel)
    index.of(wheel).hold = threading.Event()
    hub = Hub()
    going = Going(lambda: bring("zs-top", activate=False, hub=hub))
    eventually(lambda: len(ranges(index, wheel)) > 1)
    for operation in {event.operation for event in hub.known()}:
        hub.cancel(operation)
    with pytest.raises(Cancelled):
        going.end()
    assert not [each for each in threading.enumerate() if each.name.startswith("zerostart-")]


def test_what_another_process_fetches_is_waited_for(
    index: Index, bring: Bring, store: Store
) -> None:
    wheel = make("zs-shared", files=body("zs_shared"))
    publish(index, wheel)
    theirs = store.try_lock(f"fetch-{wheel.sha256}")
    assert theirs is not None
    found = bring("zs-shared", activate=False, wait=False)
    with pytest.raises(TimeoutError):
        found.wait(0.3)
    assert not ranges(index, wheel)
    theirs.release()  # they gave up
    assert (found.wait(PATIENCE).site_packages / "zs_shared" / "data").exists()


def test_many_small_wheels_are_packed_by_processes_meanwhile(
    index: Index, bring: Bring, store: Store, uv: Uv
) -> None:
    names = [f"zs-many-{number}" for number in range(16)]
    small = [make(name, files={f"{name.replace('-', '_')}/x": noise(9000)}) for name in names]
    publish(index, *small)
    going = Going(lambda: bring(*names, activate=False))
    eventually(lambda: all(have(store, each) for each in small))
    uv.go()
    found = going.end()
    for each in small:
        place = found.site_packages / each.name.replace("-", "_") / "x"
        assert place.read_bytes() == noise(9000)


def test_the_segments_of_a_large_wheel_are_no_work_for_packers(
    index: Index, bring: Bring, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    wheel = make("zs-large", files={"zs_large.py": b"", "zs_large.bin": noise(32 << 20)})
    publish(index, wheel)
    index.of(wheel).hold = hold = threading.Event()
    hire, counted = packers.hire, []

    def counting(*given: Any) -> list[packers.Packer]:
        counted.append(given[-1])
        return hire(*given)

    monkeypatch.setattr(packers, "hire", counting)
    going = Going(lambda: bring("zs-large", activate=False, wait=False))
    eventually(lambda: len(ranges(index, wheel)) > 1)
    uv.go()
    found = going.end()
    hold.set()
    found.wait(PATIENCE)
    assert len(ranges(index, wheel)) > 30
    assert counted == [1, 0]  # when nothing was known of it, and when it was


def test_nothing_is_guessed_of_an_index_that_answers_at_once(
    index: Index, bring: Bring, uv: Uv, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(headstart, "NEAR", PATIENCE)
    wheel = make("zs-top", files=body("zs_top"))
    publish(index, wheel)
    going = Going(lambda: bring("zs-top", "zs-absent", activate=False))
    eventually(lambda: index.requests["/simple/zs-top/"] > 0)
    uv.go()
    with pytest.raises(ResolveError):
        going.end()
    assert not ranges(index, wheel)


def test_nothing_is_guessed_where_the_user_wants_none(
    index: Index, bring: Bring, settings: Settings, uv: Uv
) -> None:
    wheel = make("zs-top", files=body("zs_top"))
    publish(index, wheel)
    quiet = settings.with_(no_head_start=True)
    going = Going(lambda: bring("zs-top", "zs-absent", activate=False, settings=quiet))
    uv.go()
    with pytest.raises(ResolveError):
        going.end()
    assert not ranges(index, wheel)


@pytest.mark.parametrize(
    ("variable", "value"), [("UV_EXCLUDE_NEWER", "2020-01-01"), ("UV_RESOLUTION", "lowest")]
)
def test_nothing_is_guessed_where_uv_was_told_to_choose_otherwise(
    index: Index, bring: Bring, store: Store, uv: Uv, monkeypatch: pytest.MonkeyPatch,
    variable: str, value: str,
) -> None:  # fmt: skip
    monkeypatch.setenv(variable, value)
    wheel = make("zs-top", files=body("zs_top"))
    publish(index, wheel)
    going = Going(lambda: bring("zs-top", "zs-absent", activate=False))
    uv.go()
    with pytest.raises(ResolveError):
        going.end()
    assert not ranges(index, wheel)


def test_nothing_is_guessed_of_what_constraints_name(
    index: Index,
    bring: Bring,
    store: Store,
    uv: Uv,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    old = make("zs-pick", "1.0", files={"zs_pick/__init__.py": b"V = 1\n"})
    new = make("zs-pick", "2.0", files={"zs_pick/__init__.py": b"V = 2\n"})
    free = make("zs-free", files={"zs_free/__init__.py": b""})
    publish(index, old, new, free)
    (tmp_path / "constraints.txt").write_text("zs-pick<2  # for now\n")
    monkeypatch.setenv("PIP_CONSTRAINT", str(tmp_path / "constraints.txt"))
    going = Going(lambda: bring("zs-pick", "zs-free", activate=False))
    eventually(lambda: have(store, free))
    uv.go()
    assert dict(going.end().distributions)["zs-pick"] == "1.0"
    assert not ranges(index, new)
