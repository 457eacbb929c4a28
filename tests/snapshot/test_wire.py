from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zerostart_jupyter.core import errors
from zerostart_jupyter.snapshot import wire

Pipe = tuple[int, int]


@pytest.fixture
def pipe() -> Iterator[Pipe]:
    ends = os.pipe()
    yield ends
    for end in ends:
        try:
            os.close(end)
        except OSError:
            continue


@given(st.lists(st.dictionaries(st.text(), st.text() | st.integers() | st.none()), max_size=8))
def test_messages_arrive_whole_and_in_order(messages: list[wire.Message]) -> None:
    reading, writing = os.pipe()
    try:
        for message in messages:
            wire.send(writing, message)
        reader = wire.Reader(reading)
        assert [reader.wait() for _ in messages] == messages
    finally:
        os.close(reading)
        os.close(writing)


def test_a_message_larger_than_a_pipe(pipe: Pipe) -> None:
    message = {"kind": "big", "text": "x" * (1 << 20)}
    sender = threading.Thread(target=wire.send, args=(pipe[1], message))
    sender.start()
    assert wire.Reader(pipe[0]).wait() == message
    sender.join()


def test_the_end_of_the_other_side(pipe: Pipe) -> None:
    wire.send(pipe[1], {"kind": "last"})
    os.close(pipe[1])
    reader = wire.Reader(pipe[0])
    assert reader.wait() == {"kind": "last"}
    with pytest.raises(EOFError):
        reader.wait()
    with pytest.raises(EOFError):
        list(reader.take())


def test_a_check_may_give_up(pipe: Pipe) -> None:
    with pytest.raises(TimeoutError):
        wire.Reader(pipe[0]).wait(pause=0.01, check=wire.until(time.monotonic()))


def test_a_channel_is_reached_through_proc() -> None:
    channel = wire.Channel.open()
    try:
        ends = channel.ends()
        wire.tell(os.getpid(), ends["to"], {"kind": "hello"})
        assert channel.reader.wait() == {"kind": "hello"}
        channel.say({"kind": "bye"})
        opened = wire.reach(os.getpid(), ends["from"], os.O_RDONLY)
        assert wire.Reader(opened).wait() == {"kind": "bye"}
        os.close(opened)
    finally:
        channel.close()
    channel.close()
    with pytest.raises(OSError, match="No such file"):
        wire.tell(os.getpid(), 10_000, {})


@pytest.mark.parametrize(
    "kind",
    [
        each
        for each in vars(errors).values()
        if isinstance(each, type) and issubclass(each, errors.ZerostartError)
    ],
)
def test_an_error_of_ours_is_the_same_on_the_other_side(kind: type[errors.ZerostartError]) -> None:
    error = wire.revive(wire.describe(kind("It broke.", remedy="Mend it.")))
    assert (type(error), error.message, error.remedy) == (kind, "It broke.", "Mend it.")


def test_any_other_error_becomes_one_of_ours() -> None:
    error = wire.revive(wire.describe(ZeroDivisionError("by zero")))
    assert type(error) is errors.SnapshotError
    assert error.message == "ZeroDivisionError: by zero"
    message = {"error": "annotations", "message": "a", "remedy": "b"}
    assert type(wire.revive(message)) is errors.SnapshotError
