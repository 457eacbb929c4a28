"""Process 1 of the namespace that a kernel is started in, rather than restored."""

from __future__ import annotations

import os
import signal
import subprocess

from zerostart_jupyter.snapshot import isolation, privileges, streams, wire
from zerostart_jupyter.snapshot.door import VARIABLE, Door
from zerostart_jupyter.snapshot.launch import die_with_parent


def first(control: int) -> int:
    """Start the command that the launcher names, and serve it; its end is the namespace's."""
    die_with_parent()
    shepherd = wire.Reader(control)
    try:
        order = shepherd.wait()
        isolation.settle()
        door = Door()
        outputs, forwards = streams.inside()
        kernel = _start(order["argv"], door, outputs)
    except EOFError:
        return 1
    except BaseException as error:
        wire.send(control, wire.describe(error))
        return 1
    wire.send(control, {"kind": "launched", "pid": kernel.pid})
    # While the kernel imports what it needs: not to be waited for before.
    from zerostart_jupyter.snapshot import namespace

    kernel.returncode = 0  # collected by what follows, and not by subprocess
    return namespace.serve(namespace.Kernel(kernel.pid), shepherd, door, forwards)


def _start(argv: list[str], door: Door, outputs: dict[int, int]) -> subprocess.Popen[bytes]:
    env = os.environ | {VARIABLE: door.name}
    if "JPY_PARENT_PID" in env:
        env["JPY_PARENT_PID"] = "1"  # us; ipykernel does not watch process 1
    try:
        return subprocess.Popen(
            argv,
            stdin=outputs.get(0),
            stdout=outputs.get(1),
            stderr=outputs.get(2),
            env=env,
            start_new_session=True,
            preexec_fn=_be_ordinary,
        )
    finally:
        for number in outputs.values():
            os.close(number)


def _be_ordinary() -> None:
    privileges.give_up()
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
