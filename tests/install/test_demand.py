"""What is imported comes first, with all it needs: through every stage, and not only the first."""

from __future__ import annotations

import importlib
import signal
import sys
import threading
import time

import pytest

from tests.install.conftest import Bring, publish
from tests.install.wheels import make, noise
from tests.patience import PATIENCE, eventually
from tests.servers.index import Index
from zerostart_jupyter.core.events import Event, State, hub, operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.install import precedence
from zerostart_jupyter.install.environment import Environment
from zerostart_jupyter.install.indexes import Indexes
from zerostart_jupyter.install.installation import Installation
from zerostart_jupyter.install.lock import Locked
from zerostart_jupyter.install.packers import Packer
from zerostart_jupyter.install.pipeline import Pipeline
from zerostart_jupyter.install.segments import Segment
from zerostart_jupyter.install.window import Coming


def test_what_is_here_but_not_inflated_is_overtaken_by_a_demand(
    bring: Bring, index: Index, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Everything is fetched while the only worker is busy; the demand comes after that."""
    others = [make(f"zs-other{n}", files={f"zs_other{n}.bin": noise(80_000, n)}) for n in range(6)]
    first = make("zs-first")
    wanted = make("zs-wanted", requires=["zs-needed"])
    needed = make("zs-needed", requires=["zs-below"])
    every = [*others, first, wanted, needed, make("zs-below")]
    publish(index, *every)
    busy, go = threading.Event(), threading.Event()
    committed: list[str] = []
    arrived: list[int] = []
    lock = threading.Lock()
    add, mark, deliver = Environment.add, Environment.mark, Pipeline._deliver

    def slowly(self: Environment, locked: Locked, *rest: object) -> None:
        busy.set()
        assert go.wait(PATIENCE)
        add(self, locked, *rest)  # type: ignore[arg-type]

    def noted(self: Environment, locked: Locked) -> None:
        committed.append(locked.name)
        mark(self, locked)

    def here(self: Pipeline, wheel: object, intake: object, segment: Segment, data: object) -> None:
        deliver(self, wheel, intake, segment, data)  # type: ignore[arg-type]
        with lock:
            arrived.append(len(segment))

    monkeypatch.setattr(Pipeline, "_deliver", here)
    monkeypatch.setattr(Environment, "add", slowly)
    monkeypatch.setattr(Environment, "mark", noted)
    found = bring(
        *(each.name for each in every), wait=False, settings=settings.with_(extract_threads=1)
    )
    assert busy.wait(PATIENCE)
    eventually(lambda: sum(arrived) == sum(len(each.data) for each in every))
    found.demand("zs-wanted")
    go.set()
    found.wait(PATIENCE)
    assert len(committed) == len(every)
    rest = [name for name in committed[1:] if name not in {"zs-wanted", "zs-needed", "zs-below"}]
    at = {name: place for place, name in enumerate(committed)}
    assert max(at[name] for name in ("zs-wanted", "zs-needed", "zs-below")) < min(
        at[name] for name in rest
    )


class TestPrecedence:
    """While somebody waits, what nobody waits for leaves the processor to what is awaited."""

    @pytest.fixture
    def opened(self, monkeypatch: pytest.MonkeyPatch) -> list[str]:
        """Names of wheels in the order in which they are opened; the first two wait for `go`."""
        names: list[str] = []
        self.go = threading.Event()
        open_ = Pipeline._open

        def noted(pipeline: Pipeline, wheel: Coming) -> None:
            names.append(wheel.locked.name)
            if len(names) <= 2:
                assert self.go.wait(PATIENCE)
            open_(pipeline, wheel)

        monkeypatch.setattr(Pipeline, "_open", noted)
        return names

    @pytest.fixture
    def found(
        self, bring: Bring, index: Index, settings: Settings, opened: list[str]
    ) -> Installation:
        """Eight wheels, two at a time; the end of the one that is wanted comes, and no more."""
        wanted = make("zs-wanted", files={"zs_wanted.bin": noise(1 << 20)})
        others = [make(f"zs-other{number}") for number in range(7)]
        publish(index, wanted, *others)
        index.of(wanted).hold = self.hold = threading.Event()
        found = bring(
            *(each.name for each in others),
            "zs-wanted",
            wait=False,
            settings=settings.with_(parallel_downloads=2, no_head_start=True),
        )
        eventually(lambda: len(opened) == 2)
        assert "zs-wanted" not in opened
        return found

    def test_nothing_new_is_begun_beside_what_is_awaited(
        self, found: Installation, opened: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precedence, "MOST", PATIENCE)
        found.demand("zs-wanted")
        self.go.set()
        eventually(lambda: opened[2:] == ["zs-wanted"])
        time.sleep(0.2)
        assert len(opened) == 3
        self.hold.set()
        found.wait(PATIENCE)  # what it brought is imported by nobody: that is over soon
        assert len(opened) == 8

    def test_who_waits_long_holds_nobody_back(
        self, found: Installation, opened: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(precedence, "MOST", 0.1)
        found.demand("zs-wanted")
        self.go.set()
        eventually(lambda: len(opened) == 8)
        assert not found.done
        self.hold.set()
        found.wait(PATIENCE)

    def test_no_packer_is_started_beside_it(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with operation("install", "something") as work:
            pipeline = Pipeline(store, Settings.read(), Indexes(), work)
        packer = Packer(store)
        pipeline._precedence.give()
        pipeline._start(packer)
        assert packer._process is None
        monkeypatch.setattr(precedence, "MOST", -1.0)
        pipeline._precedence.give()
        pipeline._precedence.review(True)
        try:
            pipeline._start(packer)
            process = packer._process
            assert process is not None
            pipeline._start(packer)
            assert packer._process is process
        finally:
            packer.close()


def test_an_interrupt_says_what_the_import_waited_for(bring: Bring, index: Index) -> None:
    late = make("zs-stalled", files={"zs_stalled.py": b"X = 3\n", "zs_stalled.bin": noise(3 << 20)})
    publish(index, late)
    held = index.of(late)
    held.hold = threading.Event()
    found = bring("zs-stalled", wait=False)
    main = threading.main_thread().ident
    assert main is not None
    said: list[Event] = []
    shown = threading.Event()

    def listen(events: object) -> None:
        for event in events:  # type: ignore[attr-defined]
            if (event.kind, event.title) == ("import", "zs_stalled"):  # others may be told too
                said.append(event)
                shown.set()

    leave = hub().subscribe(listen)

    def interrupt() -> None:
        shown.wait(PATIENCE)
        signal.pthread_kill(main, signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt) as caught:
            importlib.import_module("zs_stalled")
    finally:
        leave()
        thread.join(PATIENCE)
    assert "zs_stalled was waiting for zs-stalled" in str(caught.value)
    (line,) = caught.value._render_traceback_()  # type: ignore[attr-defined]
    assert "run this again" in line
    assert said[0].title == "zs_stalled"
    assert said[-1].state is State.CANCELLED  # the wait, and nothing else
    assert not found.done
    assert "zs_stalled" not in sys.modules
    held.hold.set()
    assert importlib.import_module("zs_stalled").X == 3


def test_a_wait_may_be_cancelled_where_it_is_shown(bring: Bring, index: Index) -> None:
    late = make("zs-panel", files={"zs_panel.py": b"X = 3\n", "zs_panel.bin": noise(3 << 20)})
    publish(index, late)
    held = index.of(late)
    held.hold = threading.Event()
    found = bring("zs-panel", wait=False)

    def cancel(events: object) -> None:
        for event in events:  # type: ignore[attr-defined]
            if event.kind == "import" and event.item == "" and not event.state.final:
                hub().cancel(event.operation)

    leave = hub().subscribe(cancel)
    try:
        with pytest.raises(Exception, match="import of zs_panel was cancelled"):
            importlib.import_module("zs_panel")
    finally:
        leave()
    held.hold.set()
    assert importlib.import_module("zs_panel").X == 3
    found.wait(PATIENCE)
