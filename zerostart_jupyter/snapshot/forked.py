"""Undo points: a frozen fork of the kernel before each cell, and the way back to one.

`undo()` wakes a point while the kernel still stands; whatever of that fails is an error in the
cell. Then the kernel gives way: the first to do so becomes the `keeper` by exec (same pid, same
connection file), later ones tell that keeper who comes next, and end.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import sys
import warnings
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

from zerostart_jupyter.core.errors import SnapshotRefused, ZerostartError
from zerostart_jupyter.core.events import Operation
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import (
    forkable,
    hooks,
    in_place,
    launch,
    listening,
    ports,
    procfs,
    revival,
    undone,
    wire,
)
from zerostart_jupyter.snapshot.adapter import LiveKernel
from zerostart_jupyter.snapshot.bounds import Bounds
from zerostart_jupyter.snapshot.frozen import Family, sleep
from zerostart_jupyter.snapshot.point import Point
from zerostart_jupyter.snapshot.reach import Auto, Reach, Undone

_REASONS = 1000  # cells for which it is still known why they cannot be undone
_KEEPER = Path(__file__).with_name("keeper.py")


class _Points:
    """The points of this kernel, oldest first; the last belongs to the running cell."""

    def __init__(self) -> None:
        self.on = False
        self.undone: list[tuple[int, int]] = []
        self._all: list[Point] = []
        self._bounds = Bounds(self._all)
        self._keeper: int | None = None
        self._orders: tuple[int, int] | None = None
        self._told = ""

    def begin(self, kernel: LiveKernel, settings: Settings) -> None:
        """Keep a point before each cell from now on."""
        self._bounds.settings = settings
        if self._orders is None:
            self._orders = os.pipe()
        if not self.on:
            self.on = True
            original = kernel.wrap_execution(None)

            async def execute(stream: Any, identities: list[bytes], request: Any) -> None:
                content = request["content"]
                if not content.get("store_history", not content.get("silent", False)):
                    await original(stream, identities, request)
                    return
                reached = self._before_cell(kernel)
                try:
                    if reached is not None:
                        undone.answer(kernel, reached)
                    else:
                        await original(stream, identities, request)
                finally:
                    self._after_cell()

            kernel.wrap_execution(execute)

    def end(self, kernel: LiveKernel) -> None:
        """Keep no more points, and let go of those there are."""
        if self.on:
            kernel.wrap_execution(None)
            self.on = False
        self.forget("undo points were switched off")

    def forget(self, why: str) -> None:
        """Let go of all points."""
        for point in self._all:
            self._bounds.end(point, why)
        self._all.clear()
        self._bounds.forget()

    @property
    def held(self) -> int:
        """The bytes that only the points hold, when it was measured last."""
        return self._bounds.held

    def living(self) -> list[Point]:
        """Those that can be gone back to, the running cell's own left out."""
        self._bounds.living()
        return [point for point in self._all[:-1] if not point.gap]

    def processes(self) -> list[int]:
        """The ids of all points."""
        return [point.pid for point in self._bounds.living()]

    def reach(self) -> Reach:
        """What can be undone once the running cell has ended."""
        self._bounds.keep_count()
        ended = [point for point in self._all if point.counts]
        return Reach(
            self.on,
            self.held,
            tuple(point.number for point in ended if not point.gap),
            tuple((point.number, point.gap) for point in ended if point.gap),
            tuple(self.undone),
        )

    def back_to(self, number: int) -> int:
        """How many cells the running one is after the cell of this number."""
        after = [point.number for point in reversed(self._all)]
        if number not in after[1:]:
            raise SnapshotRefused(
                f"There is no undo point before cell [{number}].",
                remedy="Cells that this kernel ran after `%zs_snapshot auto on` have one.",
            )
        return after.index(number)

    def find(self, cells: int) -> Point:
        """The point before the last so many cells; raises SnapshotRefused with the reason."""
        possible = "There are none." if not self.living() else ""
        remedy = possible or f"Undo {self._reach()} at most, or restore a snapshot."
        if cells < 1:
            raise SnapshotRefused(f"{cells} cells cannot be undone.", remedy="Give 1 or more.")
        if not self.on:
            raise SnapshotRefused(
                "No undo points are kept.",
                remedy="Run `%zs_snapshot auto on`: cells that you run after it can be undone.",
            )
        if cells >= len(self._all):
            raise SnapshotRefused(
                f"There is no undo point {cells} cells back.",
                remedy=remedy if self.living() else "Run a cell first: it can be undone.",
            )
        point = self._all[-1 - cells]
        if point.gap:
            raise SnapshotRefused(
                f"There is no undo point before cell [{point.number}]: {point.gap}.",
                remedy=remedy if self.living() else "Restore a snapshot, or run it again.",
            )
        return point

    def _present_keeper(self) -> int | None:
        # A kernel that was saved after an undo wakes up in a namespace without its keeper.
        return self._keeper if self._keeper == os.getppid() else None

    def _reach(self) -> str:
        whole = len(self._all) - 1
        steps = [whole - at for at, point in enumerate(self._all[:-1]) if not point.gap]
        return " or ".join(map(str, sorted(steps)))

    def _before_cell(self, kernel: LiveKernel) -> Undone | None:
        """Keep a point; in the process that is woken from it this returns what was undone."""
        self._bounds.cell_begins()
        point = Point(kernel.position()["count"], kernel.position()["line"] + 1)
        try:
            opened = procfs.opened()
            forkable.examine(kernel, opened)
            message = self._fork(kernel, point, opened)
        except (SnapshotRefused, OSError) as error:  # a cell must run without a point, too
            point.gap = getattr(error, "message", f"there could be no fork: {error}")
            point.gap = point.gap.removesuffix(".")
            if point.gap != self._told:
                print(f"This cell cannot be undone. {error}", file=sys.stderr)
            self._told = point.gap
            self._all.append(point)
            return None
        self._told = ""
        if message is None:
            self._all.append(point)
            return None
        self._bounds.woken()
        kernel.take_position(message["position"])
        undone.take_inputs(kernel, point.line, message["inputs"])
        self._keeper = message["keeper"]
        for each in self._all:  # what has become of them since we were forked
            if not each.gap and (why := message["gaps"].get(str(each.pid))):
                each.drop(why)
        self.undone.append((point.number, message["asking"] - 1))
        hooks.tell_returned()
        return Undone(message["cells"], point.number)

    def _after_cell(self) -> None:
        if self._all and not self._all[-1].counts:
            self._bounds.end(self._all.pop(), "nothing came of it")
        self._bounds.cell_ended()
        del self._all[: -self._bounds.settings.undo_points - _REASONS]

    def _fork(
        self, kernel: LiveKernel, point: Point, opened: Mapping[int, str]
    ) -> wire.Message | None:
        own = os.getpid()
        family = Family(own, self._present_keeper() or own)
        point.comms = frozenset(kernel.comms())
        point.children = frozenset(procfs.children(own))
        offsets = _offsets(opened, revival.outputs(kernel, opened))
        inbox, answers = os.pipe(), os.pipe()
        try:
            pid = _forked()
        except OSError:
            for end in (*inbox, *answers):
                os.close(end)
            raise
        if not pid:
            os.close(inbox[1])
            os.close(answers[0])
            return sleep(kernel, inbox[0], answers[1], family, offsets)
        os.close(inbox[0])
        os.close(answers[1])
        point.pid, point.inbox, point.answers = pid, inbox[1], wire.Reader(answers[0])
        return None

    def go_back(self, kernel: LiveKernel, cells: int) -> NoReturn:
        """Wake a point, and give it our place."""
        if self._all:
            self._all[-1].counts = False
        point = self.find(cells)
        with contextlib.ExitStack() as undo:
            _close_comms(kernel, point)
            undone.write_history(kernel)
            farewell = in_place.let_go(kernel, undo)
            connection = kernel.connection()
            # The keeper holds the ports from the first undo on.
            kept = [] if self._present_keeper() else _held(connection, undo)
            # Clients that come back early find somebody; see `listening`.
            offered = listening.begin(_held(connection, undo), connection)
            self._wake(kernel, point, farewell, cells, offered)
            self._give_way(kernel, point, [each.fileno() for each in kept])

    def _wake(
        self,
        kernel: LiveKernel,
        point: Point,
        farewell: dict[str, Any],
        cells: int,
        offered: Sequence[socket.socket],
    ) -> None:
        """Have the process be ready to take over; raises what keeps it from that."""
        message = farewell | {
            "kind": "wake",
            "cells": cells,
            "asking": self._all[-1].number,
            "gaps": {each.pid: each.gap for each in self._all if each.pid and each.gap},
            "keeper": self._present_keeper() or os.getpid(),
            "inputs": undone.inputs(kernel, point.line),
        }
        with contextlib.closing(listening.Offer(offered)) as offer:
            point.ask(message | {"listening": offer.path}, "ready", offer)

    def _give_way(self, kernel: LiveKernel, point: Point, kept: Sequence[int]) -> NoReturn:
        assert self._orders is not None
        for each in self._all[self._all.index(point) + 1 :]:
            each.drop("it was undone")
        older = {each.pid for each in self._all if not each.gap}
        in_place.leave_children(*older, *point.children)
        if self._present_keeper() is not None:
            os.write(self._orders[1], b"%d\n" % point.pid)
            os._exit(0)
        in_place.hand_on({self._orders[0], *kept}, kernel.outputs())
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # until the keeper listens to it
        argv = [sys.executable, "-I", "-S", str(_KEEPER), str(point.pid), str(self._orders[0])]
        launch.undebugged()
        os.execv(sys.executable, argv)


_points = _Points()


def auto(on: bool, *, settings: Settings | None = None) -> Auto:
    """Keep an undo point before each cell from the next one on, or no more.

    Raises SnapshotRefused that names what makes it impossible in this kernel.
    """
    kernel = LiveKernel.current()
    if on:
        revival.shepherd()  # process 1 knows this kernel, and would not know one that was forked
        forkable.examine(kernel)
        _points.begin(kernel, settings or Settings.read())
    else:
        _points.end(kernel)
    return Auto(_points.on, len(_points.living()), _points.held)


def undo(cells: int = 1, *, before: int | None = None) -> NoReturn:
    """Go back to before the last so many cells; the running one, which asks, does not count.

    `before` is the prompt number of the first cell to undo, and says the same another way. The
    cell is answered by the kernel that wakes up. What cells did outside of the kernel, to files
    above all, is not undone. Raises SnapshotRefused with this kernel untouched.
    """
    kernel = LiveKernel.current()
    _points.go_back(kernel, cells if before is None else _points.back_to(before))


def ask(cells: int, message: wire.Message, answered: str, work: Operation) -> wire.Message:
    """What the point before the last so many cells answers; it stays, also if that is cancelled.

    Raises as `undo` does, or Cancelled.
    """
    point = _points.find(cells)
    work.on_cancel(point.stop)
    try:
        return point.ask(message, answered)
    except ZerostartError:
        work.check()
        raise


def reach() -> Reach:
    """How far back one can go from the next cell on."""
    return _points.reach()


def processes() -> list[int]:
    """The ids of the processes that are undo points."""
    return _points.processes()


def forget() -> None:
    """Let go of all undo points, as before a dump: they would be part of it."""
    _points.forget("the kernel was saved since")


def _held(connection: Mapping[str, Any], undo: contextlib.ExitStack) -> list[socket.socket]:
    return [undo.enter_context(each) for each in ports.hold(connection)]


def _forked() -> int:
    if sys.version_info < (3, 12):
        return os.fork()
    with warnings.catch_warnings():
        # We know of the other threads, and what becomes of them.
        warnings.simplefilter("ignore", DeprecationWarning)
        return os.fork()


def _offsets(opened: Mapping[int, str], but: Collection[int]) -> dict[int, int]:
    """Where each open file is being read or written, our launcher's outputs excepted."""
    found = {}
    for number, target in opened.items():
        if number not in but and target.startswith("/"):
            with contextlib.suppress(OSError):
                found[number] = os.lseek(number, 0, os.SEEK_CUR)
    return found


def _close_comms(kernel: LiveKernel, point: Point) -> None:
    """Tell the frontend to let go of widgets that undone cells have made."""
    for name, comm in kernel.comms().items():
        if name not in point.comms:
            with contextlib.suppress(Exception):  # a widget's own callbacks
                comm.close()
