from __future__ import annotations

import ast
import json
import socket
import stat
from pathlib import Path

import pytest

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, kernel, ours
from zerostart_jupyter import snapshot
from zerostart_jupyter.core.store import Store
from zerostart_jupyter.snapshot import estimate

pytestmark = pytest.mark.criu


def test_the_kernel_goes_on_as_if_nothing_had_happened(python: Kernel) -> None:
    python.run("x = 41")
    before = python.connection

    ran = python.attempt("print('before')\ns = z.snapshot('one')\nprint('after', s.restored)")

    assert ran.text == "before\nafter False\n"
    assert ran.number == 3
    assert python.run("x += 1; x") == "42"
    assert python.connection == before
    assert python.client.hb_channel.is_beating()


def test_a_restored_kernel_returns_from_the_same_call(python: Kernel) -> None:
    python.run("x = 41")
    python.run("s = z.snapshot('one')\nx += 1")
    snapshot.publish("one")

    with kernel("zerostart-one") as clone:
        assert clone.run("x, s.restored, s.name") == "(42, True, 'one')"
        assert clone.attempt("print('here')").text == "here\n"
        assert clone.connection["key"] != python.connection["key"]
        assert clone.run("x += 100; x") == "142"
        assert python.run("x, s.restored") == "(42, False)"


def test_what_a_save_reports_is_true(python: Kernel, with_criu: Path) -> None:
    python.run("s = z.snapshot('one', notebook='a.ipynb', kernel_seconds=12.5)")
    found = snapshot.show("one")

    images = sum(path.stat().st_size for path in found.images.glob("*.img"))
    mapped = sum(size for size, _ in found.manifest().memory.values())
    assert found.bytes == images + mapped
    assert images > 0
    assert json.loads(python.run("import json; print(json.dumps([s.id, s.bytes, s.tier]))")) == [
        found.id,
        images + mapped,
        "process",
    ]
    assert 0 < found.frozen_seconds < found.seconds
    assert found.kernel_seconds == 12.5
    assert found.notebook == "a.ipynb"
    assert found.parent is None
    assert found.manifest().pid == python.pid


def test_a_file_that_is_replaced_as_soon_as_the_kernel_goes_on_is_noticed(
    python: Kernel, with_criu: Path
) -> None:
    path = with_criu / "data"
    path.write_bytes(b"a" * 4096)
    python.run(
        "import mmap, os; from zerostart_jupyter.snapshot import process\n"
        f"path = {str(path)!r}\n"
        "with open(path, 'rb') as f: m = mmap.mmap(f.fileno(), 0, access=mmap.ACCESS_READ)\n"
        "_enter = process.Save.enter\n"
        "def enter(self, state, undo=None):\n"
        "    if state == 'resuming':\n"
        "        with open(path + '.new', 'wb') as f: f.write(b'b' * 4096)\n"
        "        os.replace(path + '.new', path)\n"
        "    _enter(self, state, undo)\n"
        "process.Save.enter = enter"
    )
    python.run("s = z.snapshot('one')")
    error = python.attempt("z.restore('one')").error
    assert error.startswith("SnapshotRefused")
    assert f"{path} has changed" in error
    assert python.run("m[:1]") == "b'a'"


def test_a_save_learns_how_fast_the_disk_is(python: Kernel, with_criu: Path) -> None:
    python.run("import os; data = os.urandom(8 << 20)")
    python.run("s = z.snapshot('one')")
    eventually(lambda: [each.pid for each in ours(with_criu)] == [python.pid])
    other = Store(with_criu / "other")
    (with_criu / "other" / "file").write_bytes(bytes(4 << 20))
    estimate.learn_disk(other, with_criu / "other" / "file")
    rates = [each.get("probes", "snapshot-disk-rate") for each in (other, _store(with_criu))]
    assert (rates[0] is None) == (rates[1] is None)  # where O_DIRECT is not possible


def _store(home: Path) -> Store:
    return Store(home / "cache")


def test_memory_on_disk_is_the_users_alone(python: Kernel, with_criu: Path) -> None:
    python.run("z.snapshot('one')")
    room = with_criu / "cache" / "snapshots"
    for path in (room, *room.rglob("*")):
        wanted = 0o700 if path.is_dir() else 0o600
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


def test_requests_that_wait_meanwhile_are_served_with_their_output(python: Kernel) -> None:
    python.run("x = 1")
    for round_ in range(3):
        python.client.execute(f"z.snapshot('s{round_}')", store_history=False)
        assert python.attempt("x += 1; print('x is', x)").text == f"x is {round_ + 2}\n"


def test_requests_that_wait_are_not_run_again_in_a_restored_kernel(python: Kernel) -> None:
    python.run("x = 1")
    python.client.execute("import time; time.sleep(0.5); z.snapshot('one')")
    python.client.execute("x = 1000")
    assert python.run("x") == "1000"
    snapshot.publish("one")

    with kernel("zerostart-one") as clone:
        assert clone.run("x") == "1"


def test_an_open_log_may_grow_and_a_database_too(python: Kernel, with_criu: Path) -> None:
    log, data = with_criu / "log.txt", with_criu / "data.sqlite"
    python.run(
        f"import sqlite3; f = open({str(log)!r}, 'w+'); f.write('one'); f.flush();"
        f"d = sqlite3.connect({str(data)!r}); d.execute('create table t(x)')"
    )
    python.run("z.snapshot('one')")
    python.run(
        "f.write('two'); f.flush(); d.executemany('insert into t values(?)', [['x' * 99]] * 999);"
        "d.commit()"
    )
    snapshot.publish("one")

    with kernel("zerostart-one") as clone:
        assert clone.run("d.execute('select count(*) from t').fetchone()") == "(999,)"


def test_a_server_that_writes_its_log_on_is_no_reason_to_fail(with_criu: Path) -> None:
    path = with_criu / "server.log"
    with path.open("ab") as log, kernel(stdout=log, stderr=log) as original:
        original.run("import zerostart_jupyter.snapshot as z; z.snapshot('one')")
        log.write(b"the server goes on\n" * 100)
        log.flush()
        snapshot.publish("one")
        path.unlink()
        with kernel("zerostart-one") as clone:
            assert clone.run("1 + 1") == "2"


@pytest.mark.parametrize("kind", ["pipe", "socket", "terminal"])
def test_whatever_the_launcher_gave_as_output(with_criu: Path, kind: str) -> None:
    import os
    import socket

    if kind == "pipe":
        kept, given = os.pipe()
    elif kind == "socket":
        kept, given = (each.detach() for each in socket.socketpair())
    else:
        kept, given = os.openpty()
    try:
        with kernel(stdin=given, stdout=given, stderr=given) as original:
            original.run("import zerostart_jupyter.snapshot as z; x = 5")
            original.run("z.snapshot('one')")
            original.run("import os; os.write(2, b'still there')")
            snapshot.publish("one")
            with kernel("zerostart-one") as clone:
                assert clone.run("x") == "5"
                assert clone.run("z.snapshot('two').restored") == "False"
    finally:
        os.close(kept)
        os.close(given)


def test_children_threads_and_shared_memory_come_along(python: Kernel) -> None:
    python.run(
        "import subprocess, threading, queue, multiprocessing.shared_memory as m\n"
        "p = subprocess.Popen(['cat'], stdin=subprocess.PIPE, stdout=subprocess.PIPE)\n"
        "asked, answered = queue.Queue(), queue.Queue()\n"
        "def serve():\n"
        "    while True: answered.put(asked.get() * 2)\n"
        "threading.Thread(target=serve, daemon=True).start()\n"
        "shared = m.SharedMemory(create=True, size=1 << 20); shared.buf[:3] = b'abc'"
    )
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    with kernel("zerostart-one") as clone:
        clone.run("p.stdin.write(b'ping'); p.stdin.close()")
        assert clone.run("p.stdout.read()") == "b'ping'"
        assert clone.run("asked.put(21); answered.get(timeout=30)") == "42"
        assert clone.run("bytes(shared.buf[:3])") == "b'abc'"
    python.run("p.stdin.close(); p.wait(); shared.close(); shared.unlink()")


def test_torch_computes_on_in_every_kernel(python: Kernel) -> None:
    compute = "with torch.no_grad(): print(float(model(ones).sum()) == expected)"
    python.run(
        "import torch\nmodel, ones = torch.nn.Linear(2048, 2048), torch.ones(64, 2048)\n"
        "with torch.no_grad(): expected = float(model(ones).sum())"
    )
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    with kernel("zerostart-one") as clone:
        assert clone.run(compute) == python.run(compute) == "True"


def test_clones_do_not_draw_the_same_numbers(python: Kernel) -> None:
    python.run(
        "import random, numpy, os, ssl, torch; random.seed(1); numpy.random.seed(1)\n"
        "torch.manual_seed(1); rng = numpy.random.default_rng(1); own = random.Random(1)\n"
        "made = torch.Generator().manual_seed(1)\n"
        "def draw():\n"
        "    return (random.random(), float(numpy.random.rand()), float(torch.rand(1)),\n"
        "        float(rng.random()), own.random(), float(torch.rand(1, generator=made)))"
    )
    for name, reseed in (("kept", False), ("fresh", True)):
        python.run(
            f"z.snapshot({name!r}, reseed={reseed})\ndrawn = draw(); secret = ssl.RAND_bytes(8)"
        )
        snapshot.publish(name)
        if not reseed:
            original = python.run("drawn")
    with kernel("zerostart-kept") as kept:
        assert kept.run("drawn") == original
    with kernel("zerostart-fresh") as one, kernel("zerostart-fresh") as two:
        drawn = [ast.literal_eval(each.run("drawn")) for each in (one, two, python)]
        assert all(len(set(each)) == 3 for each in zip(*drawn, strict=True))
        assert len({each.run("secret") for each in (one, two, python)}) == 3


def test_a_restored_kernel_says_which_connections_are_closed(python: Kernel) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        python.run(f"import socket; c = socket.create_connection(('127.0.0.1', {port}))")
        ran = python.attempt("z.snapshot('one')")
        assert "process (the whole process), kernel frozen for" in ran.result
        said = python.attempt("z.restore('one')").result
        assert said.splitlines() == [
            "Restored from snapshot 'one'.",
            f"  Connections that are closed now: 127.0.0.1:{port}.",
        ]


def test_each_restored_kernel_has_a_history_session_of_its_own(python: Kernel) -> None:
    number = "get_ipython().history_manager.session_number"
    python.run("z.snapshot('one')")
    snapshot.publish("one")
    with kernel("zerostart-one") as one, kernel("zerostart-one") as two:
        assert len({each.run(number) for each in (python, one, two)}) == 3


def test_many_saves_leak_nothing(python: Kernel) -> None:
    def held() -> tuple[int, int, list[int]]:
        """Descriptors, threads and children; not the client's connections, which come and go."""
        said = python.run(
            "import gc, os, psutil, threading; gc.collect();"
            "tcp = psutil.Process().net_connections('tcp');"
            "print(len(os.listdir('/proc/self/fd')) - sum(c.status == 'ESTABLISHED' for c in tcp),"
            "threading.active_count(),"
            "open('/proc/self/task/%d/children' % os.getpid()).read())"
        )
        descriptors, threads, *children = map(int, said.split())
        return descriptors, threads, children

    def assert_no_more_than(before: tuple[int, int, list[int]]) -> None:
        after = held()
        assert after[0] <= before[0] + 3
        assert after[1:] == before[1:]

    python.run("z.snapshot('one')")
    before = held()
    for _ in range(8):
        python.run("z.snapshot('one', replace=True)")
    assert_no_more_than(before)
    python.run("z.restore('one')")
    before = held()
    for _ in range(4):
        python.run("z.restore('one')")
        python.run("z.snapshot('two', replace=True)")
        python.run("z.restore('two')")
    assert_no_more_than(before)
