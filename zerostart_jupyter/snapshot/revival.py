"""What a kernel changes in itself when it wakes up from its images."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Mapping
from typing import Any

from zerostart_jupyter.snapshot import debugging, door, listening, procfs, random_states
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.hooks import tell_restored
from zerostart_jupyter.snapshot.quiesce import Sockets
from zerostart_jupyter.snapshot.wire import Channel, Message, describe

_channel: Channel | None = None  # to our shepherd; None in a kernel without one
_snapshot: str | None = None  # the id this kernel was restored from


def shepherd() -> Channel | None:
    """The way to this kernel's shepherd; None if it has none.

    A kernel that was started in its namespace says at the first call where it can be reached.
    """
    global _channel
    name = os.environ.pop(door.VARIABLE, None)  # what the kernel starts is not meant
    if _channel is None and name is not None:
        channel = Channel.open()
        if door.introduce(name, channel.ends()):
            _channel = channel
        else:
            channel.close()
    return _channel


def origin() -> str | None:
    """The id of the snapshot this kernel was restored from."""
    return _snapshot


def note_origin(key: str) -> None:
    """This kernel's names are those of a portable snapshot from now on."""
    global _snapshot
    _snapshot = key


def outputs(kernel: LiveKernel, opened: Mapping[int, str] | None = None) -> dict[int, str]:
    """Descriptors that lead where the launcher said: number -> stdin, stdout or stderr.

    `opened` is what `procfs.opened` finds in this process.
    """
    opened = procfs.opened() if opened is None else opened
    targets = {
        opened[number]: name for name, number in kernel.outputs().items() if number in opened
    }
    targets.pop(os.devnull, None)
    return {number: targets[target] for number, target in opened.items() if target in targets}


def come_alive(
    kernel: LiveKernel,
    sockets: Sockets,
    channel: Channel,
    message: Message,
    inherited: dict[int, str],
    *,
    first: Callable[[], object],
    reseed: bool,
) -> None:
    """Be the kernel of the connection the shepherd brought; tells it when that is done.

    `first` brings back what is not in the images; nothing of the user's runs before.
    """
    global _channel, _snapshot
    old, _channel, _snapshot = _channel, channel, message["saved"]["id"]
    if old is not None:
        old.close()
    try:
        os.environ.update(message["environment"])
        _reopen(inherited, message["door"])
        first()
        kernel.take_connection(message["connection_file"], message["connection"])
        debugging.begin_anew(kernel)
        tell_restored()
        if reseed:
            random_states.reseed(kernel.kernel.shell.user_ns)
        kernel.begin_session()
        asked: dict[str, Any] = message["revive"] or {}
        kernel.abort_waiting()
        if asked:
            kernel.enqueue([[bytes.fromhex(part) for part in each] for each in asked["waiting"]])
            kernel.serve([bytes.fromhex(part) for part in asked["identities"]], asked["request"])
            kernel.take_position(asked["position"])
        place = message["listening"]
        sockets.take(
            message["connection"],
            subscribers=asked.get("subscribers", 0),
            listening=listening.take(place) if place else None,
        )
        kernel.write_connection_file()
    except BaseException as error:
        channel.say(describe(error))
        raise
    channel.say({"kind": "bound", "connection": kernel.connection()})


def _reopen(inherited: dict[int, str], at: str) -> None:
    """Have the launcher's outputs be the shepherd's; pid 1 of our namespace shares those."""
    given = door.outputs(at)
    try:
        for number, name in inherited.items():
            fresh = _opened(name, given)
            os.dup2(fresh, number, inheritable=number <= 2)
            os.close(fresh)
    finally:
        for number in given.values():
            os.close(number)


def _opened(name: str, given: dict[str, int]) -> int:
    output = "stderr" if name == "stderr" else "stdout"
    if name != "stdin" and output in given:
        place = f"/proc/self/fd/{given[output]}"
        with contextlib.suppress(OSError):  # a socket cannot be opened again
            target = os.readlink(place)
            # By its path: as it was given it would lie on a mount outside of our namespace, and
            # this kernel could not be dumped again.
            path = target if target.startswith("/") else place
            if path != place and not os.path.samefile(path, place):
                return os.open(os.devnull, os.O_RDWR)  # a terminal that is not among ours
            return os.open(path, os.O_WRONLY | os.O_APPEND | os.O_NOCTTY)
    return os.open(os.devnull, os.O_RDWR)
