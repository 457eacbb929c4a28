"""One undo point as its kernel sees it: the frozen process before a cell, and the pipes to it."""

from __future__ import annotations

import contextlib
import os
import select
import signal
from dataclasses import dataclass, field

from zerostart_jupyter.core.errors import SnapshotRefused
from zerostart_jupyter.snapshot import procfs, wire
from zerostart_jupyter.snapshot.listening import Offer


@dataclass
class Point:
    """The frozen process before a cell; without one, `gap` says why.

    `measured` are the bytes that all points held when it was last asked.
    """

    number: int
    line: int
    gap: str = ""
    pid: int = 0
    inbox: int = -1
    answers: wire.Reader = field(default_factory=lambda: wire.Reader(-1))
    comms: frozenset[str] = frozenset()
    children: frozenset[int] = frozenset()
    counts: bool = True  # False for a cell that only asked for an undo
    measured: int | None = None

    def look(self) -> None:
        """Take what the process has said meanwhile; notices that it has ended."""
        while not self.gap and select.select([self.answers], [], [], 0)[0]:
            try:
                for message in self.answers.take():
                    self._note(message)
            except EOFError:
                self.drop("it was ended, perhaps because memory ran out")

    def tell(self, message: wire.Message) -> None:
        """Send it something that it answers when it likes; one that has ended is dropped."""
        try:
            wire.send(self.inbox, message)
        except BrokenPipeError:
            self.drop("it was ended, perhaps because memory ran out")

    def ask(self, message: wire.Message, answered: str, offer: Offer | None = None) -> wire.Message:
        """The process's answer of this kind; raises what it failed with, or that it ended.

        What is on `offer` it comes for before it gives that answer.
        """
        try:
            wire.send(self.inbox, message)
            while True:
                if offer is not None and offer.wait(self.answers.descriptor):
                    offer = None
                answer = self.answers.wait()
                if answer["kind"] == "failed":
                    raise wire.revive(answer)
                if answer["kind"] == answered:
                    return answer
                self._note(answer)
        except KeyboardInterrupt:
            self.drop("it was interrupted")  # its answer would be taken for another's
            raise
        except (EOFError, BrokenPipeError) as error:
            self.drop("it ended")
            raise SnapshotRefused(
                f"The undo point before cell [{self.number}] has ended.",
                remedy="Undo more cells, or restore a snapshot.",
            ) from error

    def stop(self) -> None:
        """End the process that works for this one, which then answers that it has failed."""
        for each in procfs.children(self.pid):
            with contextlib.suppress(OSError):
                os.kill(each, signal.SIGKILL)

    def drop(self, why: str, *, wait: bool = True) -> None:
        """End the process, and without `wait` leave it to the caller to collect it."""
        if self.gap:
            return
        self.gap = why
        os.close(self.inbox)
        os.close(self.answers.descriptor)
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGKILL)
        if wait:
            collect(self.pid)

    def _note(self, message: wire.Message) -> None:
        if message["kind"] == "measured":
            self.measured = int(message["bytes"])


def collect(pid: int, how: int = 0) -> bool:
    """Have the system forget a process that ended; False if it has not, for WNOHANG."""
    with contextlib.suppress(ChildProcessError):  # a sibling: our keeper collects it
        return os.waitpid(pid, how)[0] == pid
    return True
