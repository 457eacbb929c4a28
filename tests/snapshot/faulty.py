"""A CRIU that goes wrong, and how a kernel is known to have come to no harm."""

from __future__ import annotations

import contextlib
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import psutil

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, ours
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.snapshot import criu

ROOT = Path(__file__).parents[2]


class Broken:
    """A program in CRIU's place that answers its version, and then does something else."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "broken-criu"
        self.started = folder / "started"
        self._real = shlex.join(criu.find(Settings.read()).command)

    def does(self, script: str, *, action: str = "dump") -> Path:
        """Have `dump` or `restore` run this; `$real` is CRIU, `$images` its directory."""
        self.path.write_text(
            "#!/bin/bash\n"
            f"real={shlex.quote(self._real)}\n"
            f'if [ "$1" != {action} ]; then exec $real "$@"; fi\n'
            f"images=$3\ntouch {self.started}\n{script}\n"
        )
        self.path.chmod(0o700)
        return self.path


def dumper(private: Path) -> psutil.Process:
    """The helper that is at work."""
    for each in ours(private):
        with contextlib.suppress(psutil.Error):
            if "zerostart_jupyter.snapshot.dump" in each.cmdline():
                return each
    raise AssertionError("there is none")


def assert_untouched(kernel: Kernel, private: Path) -> None:
    """The kernel answers on all channels; no snapshot, no staging, no process is left."""
    assert kernel.run("x") == "1"
    assert kernel.attempt("print('out')").text == "out\n"
    eventually(kernel.client.hb_channel.is_beating)
    message = kernel.client.session.msg("kernel_info_request")
    kernel.client.control_channel.send(message)
    assert kernel.client.get_control_msg(timeout=60)["msg_type"] == "kernel_info_reply"
    assert list((private / "cache" / "snapshots").iterdir()) == []
    eventually(lambda: [each.pid for each in ours(private)] == [kernel.pid])


def killed_while_it_saves(cell: str) -> None:
    """Another process has a kernel run this cell, then save; something of that kills it."""
    server = subprocess.run(
        [
            *(sys.executable, "-c"),
            "from tests.snapshot.kernels import kernel\n"
            f"with kernel() as k:\n    k.run({cell!r})\n    k.attempt(\"z.snapshot('one')\")",
        ],
        cwd=ROOT,
        capture_output=True,
        check=False,
    )
    assert server.returncode == -signal.SIGKILL, server.stderr.decode()
