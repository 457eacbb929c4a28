"""Starts a kernel where its user can have it dumped, and is its shepherd: it is run as a program.

    python -m zerostart_jupyter.snapshot.launcher -f CONNECTION_FILE -- COMMAND...

An ordinary user's COMMAND runs in namespaces of its own. Where none are allowed, and for root, who
needs none, this process becomes COMMAND.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path

from zerostart_jupyter.core.errors import SnapshotError, ZerostartError
from zerostart_jupyter.snapshot import isolation, launched, privileges, wire

FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)


def main(argv: Sequence[str] | None = None) -> int:
    """Start it, and stay until it has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-f", "--connection-file", required=True, type=Path)
    parser.add_argument("command", nargs="+", help="of the kernel")
    given = parser.parse_args(argv)
    if sys.platform != "linux" or os.geteuid() == 0 or not privileges.missing():
        os.execvp(given.command[0], given.command)
    # A signal that comes before there is a kernel waits for it.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        outer, reader, pid = _start(given.command)
    except ZerostartError as error:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        print(f"zerostart: this kernel can only be saved by its names: {error}", file=sys.stderr)
        os.execvp(given.command[0], given.command)
    return _stay(given.connection_file.absolute(), outer, reader, pid, before)


def _start(argv: list[str]) -> tuple[int, wire.Reader, int]:
    """Our child outside the namespace, the way to process 1, the kernel's process id inside."""
    ours, theirs = socket.socketpair()
    parent = os.getpid()
    outer = os.fork()
    if outer == 0:
        ours.close()
        isolation.enter(theirs.detach(), parent, launched.first)
    theirs.close()
    reader = wire.Reader(ours.detach())
    with contextlib.suppress(OSError):  # it ended already, having said why
        wire.send(reader.descriptor, {"kind": "launch", "argv": argv})
    try:
        answer = reader.wait()
    except (EOFError, OSError):
        ended = SnapshotError("Its namespace ended.", remedy="Restart the kernel to try again.")
        answer = wire.describe(ended)
    if answer["kind"] == "failed":
        os.close(reader.descriptor)
        os.waitpid(outer, 0)
        raise wire.revive(answer)
    return outer, reader, int(answer["pid"])


def _stay(file: Path, outer: int, reader: wire.Reader, pid: int, signals: set[int]) -> int:
    """Be the shepherd of a kernel that was started, as of one that was restored.

    `signals` are those to be blocked from then on; what waited is passed on.
    """
    # While the kernel imports what it needs: this takes longer than all before.
    from zerostart_jupyter.snapshot.herd import Shepherd
    from zerostart_jupyter.snapshot.launch import end_like
    from zerostart_jupyter.snapshot.restored import Restored

    shepherd = Shepherd(file, None)
    shepherd.take(Restored({}, outer, reader), pid)
    signal.pthread_sigmask(signal.SIG_SETMASK, signals)
    try:
        status = shepherd.watch()
        shepherd.collect()
    except ZerostartError as error:
        shepherd.fail(error)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    return end_like(status)


if __name__ == "__main__":
    raise SystemExit(main())
