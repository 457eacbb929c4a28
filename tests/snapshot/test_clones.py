from __future__ import annotations

import json
from pathlib import Path

import psutil
import pytest

from tests.snapshot.kernels import Cells, Kernel
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.errors import SnapshotCorrupt
from zerostart_jupyter.snapshot import clones

pytestmark = pytest.mark.criu


def test_two_clones_and_the_original_live_apart(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    made = [snapshot.clone("one") for _ in range(2)]
    clients = [clone.client() for clone in made]
    try:
        cells = [Cells(client) for client in clients]
        for number, each in enumerate(cells):
            each.run(f"x += {10 * (number + 1)}")
        assert [each.run("x") for each in (*cells, python)] == ["11", "21", "1"]
        files = [json.loads(clone.connection_file.read_text()) for clone in made]
        files.append(python.connection | {"key": python.connection["key"].decode()})
        assert len({each["key"] for each in files}) == 3
        assert len({each["shell_port"] for each in files}) == 3
    finally:
        for client in clients:
            client.stop_channels()
        for clone in made:
            clone.shutdown()
    assert not any(clone.connection_file.exists() for clone in made)


def test_a_clone_made_in_a_restored_kernel_outlives_it(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    python.run("z.restore('one')")
    python.run("c = z.clone('one'); print(c.connection_file)")
    python.run("k = c.client(); k.execute_interactive('x = 7', timeout=30); k.stop_channels()")
    file = python.run("print(c.connection_file.name, c.pid)").split()

    python.manager.restart_kernel(now=True)
    python.client.wait_for_ready(timeout=60)
    path = python.run(
        "from pathlib import Path; from jupyter_core.paths import jupyter_runtime_dir as d;"
        f"print(Path(d()) / {file[0]!r})"
    )

    survivor = snapshot.Clone("one", Path(path), int(file[1]))
    client = survivor.client()
    try:
        assert Cells(client).run("x") == "7"
    finally:
        client.stop_channels()
        survivor.shutdown()


def test_a_clone_that_takes_its_time_to_end_is_ended(
    python: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    python.run("import subprocess; z.snapshot('one')")
    monkeypatch.setattr(clones, "_GRACE", 0.5)
    clone = snapshot.clone("one")
    client = clone.client()
    # ipykernel waits for its children to be gone, which one that nobody collects never is
    Cells(client).run("child = subprocess.Popen(['cat'], stdin=-1); child.kill()")
    client.stop_channels()
    shepherd = psutil.Process(clone.pid)

    clone.shutdown(timeout=20)

    assert not clone.connection_file.exists()
    assert not psutil.wait_procs([shepherd], timeout=20)[1]


def test_a_clone_that_cannot_be_leaves_nothing(python: Kernel) -> None:
    python.run("z.snapshot('one')")
    image = next(snapshot.show("one").images.glob("core-*.img"))
    image.write_bytes(b"")
    before = python.run("import os; sorted(os.listdir(os.environ['JUPYTER_RUNTIME_DIR']))")

    with pytest.raises(SnapshotCorrupt, match=image.name):
        snapshot.clone("one")

    after = python.run("sorted(os.listdir(os.environ['JUPYTER_RUNTIME_DIR']))")
    assert before == after
