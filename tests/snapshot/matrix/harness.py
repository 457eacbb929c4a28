"""Kernels in which states are made, saved and looked at again."""

from __future__ import annotations

import contextlib
import itertools
import os
import socket
import textwrap
import threading
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from tests.snapshot.debugger import Debugger
from tests.snapshot.kernels import Cells, kernel
from tests.snapshot.matrix.state import PRELUDE, State
from tests.snapshot.ordinary import User
from zerostart_jupyter import snapshot

# Sockets are the first that a save takes from a kernel.
_NOTE = """
import zerostart_jupyter.snapshot as z
from zerostart_jupyter.snapshot.quiesce import Sockets
frozen, _let_go = [], Sockets.let_go
def _noted(self): frozen.append(1); _let_go(self)
Sockets.let_go = _noted
"""
SAVE = "z.snapshot('one', tier='process', replace=True)"


@dataclass
class Verdicts:
    """What was wrong with each state, by its name; nothing for those that were right."""

    wrong: dict[str, list[str]] = field(default_factory=dict)

    def look(self, cells: Cells, states: Sequence[State], where: str, *, restored: bool) -> None:
        """Check states in this kernel."""
        for state in states:
            code = state.restored if restored and state.restored else state.check
            ran = cells.attempt(_cell(code))
            if ran.result != "True":
                self.note(state, f"{where}: {ran.error or ran.result}")

    def note(self, state: State, what: str) -> None:
        self.wrong.setdefault(state.name, []).append(what)


class Way(Protocol):
    """Who starts kernels, and where they may write."""

    ordinary: bool
    folder: Path

    def kernel(self, name: str, environ: dict[str, str]) -> AbstractContextManager[Cells]:
        """A kernel of this kernelspec, with these variables on top."""

    def publish(self, name: str) -> None:
        """Have a snapshot be a kernelspec."""


@dataclass
class AsRoot:
    """Kernels of whoever runs the tests."""

    folder: Path
    ordinary = False

    def kernel(self, name: str, environ: dict[str, str]) -> AbstractContextManager[Cells]:
        return kernel(name, env=dict(os.environ) | environ)

    def publish(self, name: str) -> None:
        snapshot.publish(name)


class AsUser:
    """Kernels of an ordinary user, started through our provisioner."""

    ordinary = True

    def __init__(self, user: User) -> None:
        self._user = user
        self.folder = user.home

    def kernel(self, name: str, environ: dict[str, str]) -> AbstractContextManager[Cells]:
        # A snapshot's kernelspec starts a shepherd, which wants no launcher.
        provisioner = "zerostart" if name == "python3" else "local-provisioner"
        environ = environ | {"JUPYTER_DEFAULT_PROVISIONER_NAME": provisioner}
        return self._user.kernel(name, **environ)

    def publish(self, name: str) -> None:
        code = f"import zerostart_jupyter.snapshot as z; z.publish({name!r})"
        done = self._user.run("-c", code)
        assert done.returncode == 0, done.stderr


class Outside:
    """Another program, as far as a kernel can tell: it answers, and keeps what it is given."""

    def __init__(self, folder: Path) -> None:
        self.path = str(folder / "outside.sock")
        self._kept: list[int] = []
        self._opened = contextlib.ExitStack()
        self._tcp = self._opened.enter_context(socket.create_server(("127.0.0.1", 0)))
        self._unix = self._opened.enter_context(socket.socket(socket.AF_UNIX))
        self._unix.bind(self.path)
        self._unix.listen()
        datagrams = self._opened.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM))
        datagrams.bind(self.path + "-datagrams")
        for path in (self.path, self.path + "-datagrams"):
            Path(path).chmod(0o777)  # an ordinary user's kernel comes too
        self.port = int(self._tcp.getsockname()[1])
        for listener in (self._tcp, self._unix):
            self._start(self._accept, listener)

    def __enter__(self) -> Outside:
        return self

    def __exit__(self, *_: object) -> None:
        for listener in (self._tcp, self._unix):
            listener.shutdown(socket.SHUT_RDWR)
        self._opened.close()
        for each in self._kept:
            os.close(each)

    def _start(self, work: object, *arguments: object) -> None:
        assert callable(work)
        threading.Thread(target=work, args=arguments, daemon=True).start()

    def _accept(self, listener: socket.socket) -> None:
        with contextlib.suppress(OSError):  # it was shut down
            while True:
                self._start(self._serve, listener.accept()[0])

    def _serve(self, connection: socket.socket) -> None:
        with connection, contextlib.suppress(OSError):
            while True:
                said, given, _, _ = socket.recv_fds(connection, 100, 8)
                self._kept += given
                if not said:
                    return
                connection.sendall(said)


_numbers = itertools.count()


@contextlib.contextmanager
def started(way: Way, outside: Outside, state: State | None = None) -> Iterator[Cells]:
    """A kernel in which states can be made."""
    with way.kernel("python3", state.environ if state else {}) as cells:
        here = way.folder / f"here-{next(_numbers)}"
        cells.run(_NOTE)
        cells.run(PRELUDE.format(here=str(here), port=outside.port, path=outside.path))
        cells.run("here.mkdir()")
        yield cells


def in_place(cells: Cells, states: Sequence[State]) -> Verdicts:
    """Make them all, save, look, restore in place, look again."""
    verdicts = _made_and_saved(cells, states)
    _succeeds(cells, "z.restore('one')")
    verdicts.look(cells, states, "restored in place", restored=True)
    return verdicts


def afterwards(cells: Cells, states: Sequence[State], way: Way) -> Verdicts:
    """The same for states that cannot be there twice; a restore comes when the kernel has gone."""
    verdicts = _made_and_saved(cells, states)
    refusal = cells.attempt("z.restore('one')").error
    for state in states:
        if not refusal.startswith("SnapshotRefused"):
            verdicts.note(state, f"restored beside itself: {refusal!r}")
    verdicts.look(cells, states, "after the refusal", restored=False)
    way.publish("one")
    return verdicts


def refused(cells: Cells, states: Sequence[State], way: Way) -> Verdicts:
    """Each in turn is named by a refusal; nothing was frozen, and without them a save succeeds."""
    verdicts = Verdicts()
    for state in states:
        debugger = Debugger(cells)
        if state.debugged:
            debugger.attach()
        cells.run(_cell(state.make))
        said = cells.attempt(SAVE).error
        if state.debugged:
            debugger.leave()
        if (
            not said.startswith(("SnapshotRefused", "NotPermitted"))
            or state.refusal(ordinary=way.ordinary) not in said
        ):
            verdicts.note(state, f"the refusal was {said!r}")
        if cells.run("frozen") != "[]":
            verdicts.note(state, "it was frozen")
        if state.undo:
            cells.run(_cell(state.undo))
    if all(state.undo for state in states):
        _succeeds(cells, SAVE)
        assert cells.run("frozen") == "[1]"
    return verdicts


def _made_and_saved(cells: Cells, states: Sequence[State]) -> Verdicts:
    verdicts = Verdicts()
    for state in states:
        error = cells.attempt(_cell(state.make)).error
        assert not error, f"{state}: {error}"
    _succeeds(cells, f"_ = {SAVE}")
    verdicts.look(cells, states, "in the kernel that goes on", restored=False)
    return verdicts


def _succeeds(cells: Cells, code: str) -> None:
    error = cells.attempt(code).error
    assert not error, error


def _cell(code: str) -> str:
    return textwrap.dedent(code).strip()
