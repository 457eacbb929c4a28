"""A restore that is cancelled while CRIU is at work: the kernel is as it was, or a fresh one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.patience import eventually
from tests.snapshot.faulty import Broken
from tests.snapshot.kernels import Kernel, kernel, ours
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.status import request_cancel
from zerostart_jupyter.snapshot.launch import command, environment, status_directory

pytestmark = pytest.mark.criu

NEVER_DONE = "exec sleep 1000"
CANCELLING = """
import threading, time
from zerostart_jupyter.core.events import hub
from pathlib import Path
def cancel():
    while not Path({started!r}).exists():
        time.sleep(0.02)
    hub().cancel([each.operation for each in hub().known() if each.kind == "restore"][-1])
Path({started!r}).unlink(missing_ok=True)
threading.Thread(target=cancel).start()
z.restore("one")
"""


@pytest.fixture
def python(broken: Broken) -> Iterator[Kernel]:
    """A kernel whose CRIU does as `broken` says, with a snapshot at x = 1."""
    broken.does('exec $real "$@"')
    with kernel() as made:
        made.run("import zerostart_jupyter.snapshot as z; x = 1; s = z.snapshot('one')")
        yield made


@pytest.mark.parametrize("again", [False, True], ids=["first", "by its shepherd"])
@pytest.mark.parametrize("how", ["cancelled", "interrupted"])
def test_the_kernel_that_asked_is_as_it_was(
    python: Kernel, broken: Broken, private: Path, again: bool, how: str
) -> None:
    if again:
        python.run("z.restore('one')")
    python.run("x = 2")
    before = {each.pid for each in ours(private)}
    broken.does(NEVER_DONE, action="restore")
    if how == "cancelled":
        assert python.attempt(CANCELLING.format(started=str(broken.started))).error.startswith(
            "Cancelled: "
        )
    else:
        broken.started.unlink(missing_ok=True)
        asked = python.client.execute("z.restore('one')")
        eventually(broken.started.exists)
        python.manager.interrupt_kernel()
        reply = python.client.get_shell_msg(timeout=60)
        assert reply["parent_header"]["msg_id"] == asked
        assert reply["content"]["ename"] == "KeyboardInterrupt"
    assert python.run("x") == "2"
    eventually(lambda: {each.pid for each in ours(private)} <= before)

    broken.does('exec $real "$@"', action="restore")
    python.run("z.restore('one')")
    assert python.run("x") == "1"


def test_a_kernel_that_is_only_starting_ends(
    python: Kernel, broken: Broken, private: Path, tmp_path: Path
) -> None:
    connection = tmp_path / "kernel-fresh.json"
    connection.write_text(json.dumps(python.connection | {"key": "key"}, default=str))
    broken.does(NEVER_DONE, action="restore")
    broken.started.unlink(missing_ok=True)
    before = {each.pid for each in ours(private)}
    status = status_directory(connection)
    argv = command("shepherd", "--snapshot", "one", "-f", str(connection))
    with subprocess.Popen(argv, env=environment(), stderr=subprocess.PIPE) as shepherd:
        eventually(lambda: broken.started.exists() and restores(status))
        request_cancel(status, restores(status)[0]["id"])
        _, said = shepherd.communicate(timeout=60)
    assert shepherd.returncode == 1
    assert said.startswith(b"Cancelled: ")
    assert [each["state"] for each in restores(status)] == ["cancelled"]
    eventually(lambda: {each.pid for each in ours(private)} <= before)
    assert snapshot.verify("one").name == "one"


def restores(status: Path) -> list[dict[str, Any]]:
    """What the shepherd says of its work."""
    file = status / "shepherd.json"
    return list(json.loads(file.read_text())["operations"]) if file.exists() else []
