"""The hub under threads, forks and failing listeners; operations and their ends."""

from __future__ import annotations

import contextlib
import itertools
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    invariant,
    rule,
)

from tests.core.hubs import StillHub
from zerostart_jupyter.core import events
from zerostart_jupyter.core.activity import Activity
from zerostart_jupyter.core.errors import Cancelled, LoadError
from zerostart_jupyter.core.events import Event, Hub, Operation, State, operation

LONG = 60.0  # seconds; nothing here takes that long, so whoever waits for it has hung


@pytest.fixture
def hub() -> Hub:
    """A hub whose pump would not come by itself within a test."""
    return StillHub()


class Recorder:
    """A listener that keeps what it was told, and can be waited for."""

    def __init__(self) -> None:
        self.batches: list[list[Event]] = []
        self._heard = threading.Condition()

    def __call__(self, batch: Sequence[Event]) -> None:
        with self._heard:
            self.batches.append(list(batch))
            self._heard.notify_all()

    @property
    def events(self) -> list[Event]:
        return [event for batch in self.batches for event in batch]

    @property
    def activity(self) -> Activity:
        return Activity().fold(self.events)

    def wait(self, told: Callable[[Recorder], bool]) -> None:
        with self._heard:
            assert self._heard.wait_for(lambda: told(self), LONG)


def summary(found: Sequence[Event]) -> list[tuple[str, str, float]]:
    return [(event.item, str(event.state), event.done) for event in found]


class TestOperation:
    def test_says_that_it_began_and_ended(self, hub: Hub) -> None:
        heard = Recorder()
        hub.subscribe(heard)
        with operation("load", "a.safetensors", unit="tensors", hub=hub) as work:
            assert summary(heard.events) == [("", "waiting", 0)]
            work.update("", 3, 4)
        assert summary(heard.events) == [("", "waiting", 0), ("", "done", 3)]
        last = heard.events[-1]
        assert (last.kind, last.title, last.unit, last.total) == (
            "load",
            "a.safetensors",
            "tensors",
            4,
        )

    @pytest.mark.parametrize(
        ("error", "state", "said"),
        [
            (Cancelled("Stopped.", remedy=""), "cancelled", "cancelled"),
            (KeyboardInterrupt(), "cancelled", "cancelled"),
            (LoadError("It broke.", remedy="Mend it."), "failed", "It broke. Mend it."),
            (RuntimeError(), "failed", "RuntimeError"),
            (SystemExit(), "failed", "SystemExit"),
        ],
    )
    def test_says_how_it_failed(
        self, hub: Hub, error: BaseException, state: str, said: str
    ) -> None:
        with pytest.raises(type(error)), operation("load", "a", hub=hub):
            raise error
        end = hub.known()[-1]
        assert (str(end.state), end.error) == (state, said)

    def test_items_have_units_and_errors_of_their_own(self, hub: Hub) -> None:
        with operation("snapshot", "a", unit="steps", hub=hub) as work:
            work.update("dump", 1, 2, unit="bytes", state=State.FAILED, error="no space")
        item = next(event for event in hub.known() if event.item == "dump")
        assert (item.unit, item.error, item.state) == ("bytes", "no space", State.FAILED)

    def test_a_late_worker_cannot_reopen_it(self, hub: Hub) -> None:
        with operation("load", "a", hub=hub) as work:
            pass
        before = hub.known()
        work.update("straggler", 1)
        work.update("", 1)
        assert hub.known() == before

    def test_the_hub_drops_what_comes_after_the_end(self, hub: Hub) -> None:
        end = Event("load-1", "load", "a", "", State.DONE, 1, 1, "bytes", 0)
        hub.emit(end)
        hub.emit(Event("load-1", "load", "a", "b", State.RUNNING, 1, 1, "bytes", 0))
        assert hub.known() == [end]

    def test_cancel_reaches_the_work(self, hub: Hub) -> None:
        with operation("load", "a", hub=hub) as work:
            work.check()
            assert not work.cancelled
            assert hub.cancel(work.id)
            assert work.cancelled
            with pytest.raises(Cancelled, match="load of a was cancelled"):
                work.check()
        assert not hub.cancel(work.id)

    def test_cancel_calls_each_callback_once(self, hub: Hub) -> None:
        called: list[str] = []
        work = Operation("load", "a", "bytes", hub)
        work.on_cancel(lambda: called.append("before"))
        work.cancel()
        work.cancel()
        work.on_cancel(lambda: called.append("after"))
        assert called == ["before", "after"]

    def test_a_failing_callback_does_not_keep_the_others_from_being_called(
        self, hub: Hub, caplog: pytest.LogCaptureFixture
    ) -> None:
        woken = threading.Event()
        with operation("load", "a", hub=hub) as work:
            work.on_cancel(lambda: 1 // 0)
            work.on_cancel(woken.set)
            assert hub.cancel(work.id)
        assert woken.is_set()
        assert "what load-" in caplog.text

    def test_may_continue_one_that_began_in_another_process(self, hub: Hub) -> None:
        with operation("snapshot", "a", hub=hub, id="snapshot-7") as work:
            assert hub.cancel("snapshot-7")
        assert {event.operation for event in hub.known()} == {work.id} == {"snapshot-7"}

    def test_goes_to_the_hub_of_the_process(self) -> None:
        with operation("load", "here") as work:
            assert work.id in {event.operation for event in events.hub().known()}


class TestDelivery:
    def test_what_is_pending_is_delivered_by_the_pump(self) -> None:
        hub, heard = Hub(interval=0.001), Recorder()
        hub.subscribe(heard)
        hub.emit(Event("load-1", "load", "a", "b", State.RUNNING, 1, 2, "bytes", 0))
        heard.wait(lambda self: bool(self.events))
        assert summary(heard.events) == [("b", "running", 1)]

    def test_the_pump_ends_when_there_is_nothing_to_say_and_comes_back(self) -> None:
        hub, heard = Hub(interval=0.001), Recorder()
        hub.subscribe(heard)
        for done in (1, 2):
            hub.emit(Event("load-1", "load", "a", "b", State.RUNNING, done, 2, "bytes", 0))
            pump = hub._pump
            heard.wait(lambda self, done=done: bool(self.events) and self.events[-1].done == done)
            if pump is not None:
                pump.join(LONG)
                assert not pump.is_alive()
        assert hub._pump is None

    def test_only_the_newest_event_of_an_item_is_delivered(self, hub: Hub) -> None:
        heard = Recorder()
        hub.subscribe(heard)
        with operation("load", "a", hub=hub) as work:
            for done in range(100):
                work.update("shard", done)
        assert summary(heard.events) == [
            ("", "waiting", 0),
            ("shard", "running", 99),
            ("", "done", 0),
        ]

    def test_nothing_is_told_to_nobody(self, hub: Hub) -> None:
        with operation("load", "a", hub=hub) as work:
            work.update("shard", 1)
            assert hub._pump is None

    def test_a_late_joiner_hears_when_it_began_and_how_it_stands(self, hub: Hub) -> None:
        with operation("load", "a", hub=hub) as work:
            began = hub.known()[0].time
            work.update("shard", 1, 3)
            work.update("shard", 2, 3)
            work.update("", 2, 3)
            heard = Recorder()
            hub.subscribe(heard)
            assert summary(heard.events) == [
                ("", "waiting", 0),
                ("", "running", 2),
                ("shard", "running", 2),
            ]
            assert heard.activity.operations[work.id].started == began

    def test_who_left_hears_nothing(self, hub: Hub) -> None:
        heard = Recorder()
        leave = hub.subscribe(heard)
        leave()
        leave()
        with operation("load", "a", hub=hub):
            pass
        assert heard.batches == []

    def test_a_listener_that_fails_is_dropped_and_the_work_goes_on(
        self, hub: Hub, caplog: pytest.LogCaptureFixture
    ) -> None:
        heard = Recorder()
        calls = itertools.count()

        def fail(_: Sequence[Event]) -> None:
            next(calls)
            raise RuntimeError("no display")

        hub.subscribe(fail)
        hub.subscribe(heard)
        with caplog.at_level(logging.ERROR), operation("load", "a", hub=hub):
            pass
        assert next(calls) == 1
        assert [event.state for event in heard.events] == [State.WAITING, State.DONE]
        assert "dropped" in caplog.text

    def test_a_listener_that_fails_when_it_joins_is_dropped(self, hub: Hub) -> None:
        with operation("load", "a", hub=hub):
            hub.subscribe(lambda _: 1 // 0)
            assert hub._listeners == []

    def test_a_listener_may_work_emit_and_subscribe(self) -> None:
        hub, heard, late = Hub(interval=0.001), Recorder(), Recorder()

        def react(batch: Sequence[Event]) -> None:
            if any(event.kind == "load" and event.state.final for event in batch):
                with operation("snapshot", "after the load", hub=hub):
                    hub.subscribe(late)

        hub.subscribe(react)
        hub.subscribe(heard)
        with operation("load", "a", hub=hub):
            pass
        heard.wait(lambda self: len(self.activity.operations) == 2)
        heard.wait(lambda self: all(v.state.final for v in self.activity.operations.values()))
        assert len(late.activity.operations) == 2

    def test_a_listener_may_flush(self, hub: Hub) -> None:
        heard = Recorder()
        hub.subscribe(lambda _: hub.flush())
        hub.subscribe(heard)
        with operation("load", "a", hub=hub):
            pass
        assert [event.state for event in heard.events] == [State.WAITING, State.DONE]

    def test_an_interrupt_inside_a_listener_reaches_the_cell(self, hub: Hub) -> None:
        def interrupted(_: Sequence[Event]) -> None:
            raise KeyboardInterrupt

        hub.subscribe(interrupted)
        with pytest.raises(KeyboardInterrupt), operation("load", "a", hub=hub):
            pass
        hub._listeners.clear()
        with operation("load", "b", hub=hub):  # no lock was left behind
            pass

    def test_a_signal_handler_may_emit_while_the_hub_is_locked(self, hub: Hub) -> None:
        work = Operation("load", "a", "bytes", hub)
        before = signal.signal(signal.SIGUSR1, lambda *_: work.update("from the handler"))
        try:
            with hub._lock:
                signal.raise_signal(signal.SIGUSR1)
        finally:
            signal.signal(signal.SIGUSR1, before)
        assert [event.item for event in hub.known()] == ["from the handler"]

    def test_only_some_finished_operations_are_remembered(self, hub: Hub) -> None:
        with operation("load", "still running", hub=hub) as running:
            for _ in range(events.KEEP_FINISHED + 5):
                with operation("load", "a", hub=hub):
                    pass
            kept = {event.operation for event in hub.known()}
        assert len(kept) == events.KEEP_FINISHED + 1
        assert running.id in kept

    def test_many_threads_at_once_lose_nothing(self) -> None:
        hub, heard = Hub(interval=0.001), Recorder()
        hub.subscribe(heard)

        def work(number: int) -> None:
            with operation("load", str(number), hub=hub) as mine:
                for done in range(50):
                    mine.update("shard", done)
                    mine.update("", done)

        threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(LONG)
        views = heard.activity.operations.values()
        assert sorted(int(view.title) for view in views) == list(range(8))
        assert all(view.state is State.DONE and view.done == 49 for view in views)


def in_child(work: Callable[[], bool]) -> bool:
    """Whether `work` is true in a forked child; a child that hangs is killed."""
    pid = os.fork()
    if pid == 0:
        signal.alarm(20)
        try:
            os._exit(0 if work() else 1)
        finally:
            os._exit(2)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
class TestFork:
    @pytest.fixture
    def locked(self) -> Iterator[None]:
        """The process's hub, its locks held by a thread that a child will not have."""
        held, done = threading.Event(), threading.Event()

        def hold() -> None:
            with events.hub()._deliver, events.hub()._lock:
                held.set()
                done.wait(LONG)

        thread = threading.Thread(target=hold)
        thread.start()
        assert held.wait(LONG)
        yield
        done.set()
        thread.join(LONG)

    @pytest.mark.usefixtures("locked")
    def test_a_child_can_work_though_its_parent_held_the_locks(self) -> None:
        def work() -> bool:
            heard = Recorder()
            events.hub().subscribe(heard)
            with operation("load", "in the child"):
                pass
            return [event.state for event in heard.events] == [State.WAITING, State.DONE]

        assert in_child(work)

    def test_a_child_neither_tells_its_parents_listeners_nor_knows_its_work(self) -> None:
        told: list[int] = []
        leave = events.hub().subscribe(lambda _: told.append(os.getpid()))
        with operation("load", "in the parent"):
            told.clear()

            def work() -> bool:
                empty = events.hub().known() == []
                with operation("load", "in the child"):
                    pass
                return empty and told == []

            assert in_child(work)
        leave()


Context = contextlib.AbstractContextManager[Operation]
Listening = tuple[Recorder, Callable[[], None]]


class HubMachine(RuleBasedStateMachine):
    """Random subscribers, emitters, failures and cancels: every listener ends with the truth."""

    works = Bundle("works")
    listeners = Bundle("listeners")

    def __init__(self) -> None:
        super().__init__()
        self.hub = StillHub()
        self.open: list[Context] = []
        self.listening: list[Listening] = []
        logging.disable()  # listeners fail on purpose, often

    @rule(target=works)
    def begin(self) -> tuple[Context, Operation]:
        context = operation("load", "a", hub=self.hub)
        self.open.append(context)
        return context, context.__enter__()

    @rule(work=works, item=st.sampled_from(["", "a", "b"]), done=st.integers(0, 9))
    def update(self, work: tuple[Context, Operation], item: str, done: int) -> None:
        work[1].update(item, done)

    @rule(work=works)
    def cancel(self, work: tuple[Context, Operation]) -> None:
        assert self.hub.cancel(work[1].id)
        assert work[1].cancelled

    @rule(work=consumes(works), fails=st.booleans())
    def end(self, work: tuple[Context, Operation], fails: bool) -> None:
        context, mine = work
        self.open.remove(context)
        expected = State.DONE
        error: Exception | None = None
        try:
            mine.check()
            if fails:
                raise RuntimeError("broken")
        except (Cancelled, RuntimeError) as raised:
            error = raised
            expected = State.CANCELLED if isinstance(raised, Cancelled) else State.FAILED
        context.__exit__(type(error) if error else None, error, None)
        assert not self.hub.cancel(mine.id)
        assert Activity().fold(self.hub.known()).operations[mine.id].state is expected

    @rule(target=listeners)
    def join(self) -> Listening:
        heard = Recorder()
        pair = (heard, self.hub.subscribe(heard))
        self.listening.append(pair)
        return pair

    @rule(listener=consumes(listeners))
    def leave(self, listener: Listening) -> None:
        listener[1]()
        self.listening.remove(listener)

    @rule(after=st.integers(0, 3))
    def join_and_fail(self, after: int) -> None:
        left = itertools.count(after, -1)

        def fail(_: Sequence[Event]) -> None:
            if next(left) <= 0:
                raise RuntimeError("no display")

        self.hub.subscribe(fail)

    @rule()
    def flush(self) -> None:
        self.hub.flush()

    @invariant()
    def everybody_who_listens_knows_what_is_known(self) -> None:
        if not self.hub._pending:
            truth = Activity().fold(self.hub.known()).operations
            for heard, _ in self.listening:
                told = heard.activity.operations
                assert {key: told[key] for key in truth} == dict(truth)

    def teardown(self) -> None:
        for context in self.open:
            context.__exit__(None, None, None)
        logging.disable(logging.NOTSET)


TestHubMachine = HubMachine.TestCase
TestHubMachine.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)


def test_what_is_forgotten_never_ended() -> None:
    hub, heard = Hub(), list[Event]()
    hub.subscribe(heard.extend)
    with operation("snapshot", "one", hub=hub) as other, operation("load", "two", hub=hub) as work:
        work.update("a shard", 1, 2)
        other.update("a step", 1, 2)
        work.forget()
        heard.clear()
        work.update("a shard", 2, 2)
    hub.flush()
    assert {event.operation for event in (*heard, *hub.known())} == {other.id}
    assert not hub.cancel(work.id)
