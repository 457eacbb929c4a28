"""The process that dumps: started by the kernel, or for one without privileges by process 1.

Process 1 of an ordinary user's namespace has the capabilities that CRIU takes, and the kernel has
none to hand on.
"""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError
from zerostart_jupyter.snapshot import privileges, wire
from zerostart_jupyter.snapshot.launch import command, environment

_PATIENCE = 30.0  # seconds for process 1, which has little else to do


class Helper:
    """What a kernel has of it: a pipe `to` it and a pipe `of` it."""

    def __init__(self) -> None:
        inbox, outbox = os.pipe(), os.pipe()
        self.to, self.of = inbox[1], outbox[0]
        self._process: subprocess.Popen[bytes] | None = None
        try:
            if privileges.missing():
                _ask(inbox[0], outbox[1])
            else:
                self._process = _start(command("dump"), environment(), inbox[0], outbox[1])
        except BaseException:
            self.let_go()
            raise
        finally:
            os.close(inbox[0])
            os.close(outbox[1])

    def let_go(self) -> None:
        """Close our ends; a second call does nothing."""
        for end in (self.to, self.of):
            if end >= 0:
                os.close(end)
        self.to = self.of = -1
        if self._process is not None:
            self._process.wait()  # which forks at once, and ends


def begin_for(message: wire.Message) -> wire.Message:
    """As process 1: start what a kernel asks for, on its pipes; what to answer it."""
    with contextlib.ExitStack() as opened:
        try:
            stdin = wire.reach(message["pid"], message["stdin"], os.O_RDONLY)
            opened.callback(os.close, stdin)
            stdout = wire.reach(message["pid"], message["stdout"], os.O_WRONLY)
            opened.callback(os.close, stdout)
            process = _start(message["argv"], message["environment"], stdin, stdout)
        except Exception as error:
            return wire.describe(error)
    process.returncode = 0  # it is collected with all that ends here
    return {"kind": "dumper"}


def _ask(stdin: int, stdout: int) -> None:
    from zerostart_jupyter.snapshot import revival  # which process 1 has no use for

    channel = revival.shepherd()
    if channel is None:
        raise SnapshotError("There is nobody to dump this kernel.", remedy="Save it by its names.")
    argv, env = command("dump"), environment()
    about: dict[str, Any] = {"pid": os.getpid(), "stdin": stdin, "stdout": stdout}
    channel.say({"kind": "dumper", **about, "argv": argv, "environment": env})
    try:
        answer = channel.reader.wait(check=wire.until(time.monotonic() + _PATIENCE))
    except (EOFError, TimeoutError) as error:
        raise SnapshotError(
            "Process 1 of this kernel's namespace does not answer.", remedy="Restart the kernel."
        ) from error
    if answer["kind"] == "failed":
        raise wire.revive(answer)


def _start(
    argv: list[str], env: dict[str, str], stdin: int, stdout: int
) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        argv,
        stdin=stdin,
        stdout=stdout,
        stderr=subprocess.DEVNULL,
        env=env,
        cwd="/",
        start_new_session=True,
    )
