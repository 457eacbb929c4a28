from __future__ import annotations

import psutil
import pytest

from tests.patience import eventually
from tests.snapshot.kernels import Kernel, kernel
from zerostart_jupyter import snapshot

pytestmark = pytest.mark.criu


def test_the_cell_that_asks_is_answered_by_the_kernel_that_wakes_up(python: Kernel) -> None:
    python.run("x = 1")
    python.run("s = z.snapshot('one')\nprint('restored' if s.restored else 'saved')")
    python.run("x = 1000")
    python.run("y = 5")
    before, pid = python.connection, python.pid

    ran = python.attempt("print('asking')\nz.restore('one')\nprint('never')")

    assert ran.text == "asking\nrestored\n"
    assert ran.number == 6
    assert python.attempt("x").number == 7
    assert python.run("x") == "1"
    assert "NameError" in python.attempt("y").error
    assert (python.connection, python.pid) == (before, pid)
    assert python.manager.is_alive()
    assert python.client.hb_channel.is_beating()


def test_again_and_again_without_nesting(python: Kernel) -> None:
    python.run("x = 0\nz.snapshot('one')")
    for number in range(3):
        python.run(f"x = {number + 1}")
        python.run("z.restore('one')")
        assert python.run("x") == "0"
        assert len(psutil.Process(python.pid).children(recursive=True)) == 3


def test_a_restored_kernel_can_be_saved_through_generations(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    python.run("z.restore('one')")
    python.run("x += 1\nz.snapshot('two')")
    python.run("x = 0")
    python.run("z.restore('two')")
    python.run("x += 1\nz.snapshot('three')")
    snapshot.publish("three")

    with kernel("zerostart-three") as clone:
        assert clone.run("x") == "3"
        assert clone.run("[(e.name, e.parent) for e in z.snapshots()]") == (
            "[('one', None), ('two', 'one'), ('three', 'two')]"
        )
    assert python.run("x") == "3"


def test_the_line_of_history_is_the_asking_cells(python: Kernel) -> None:
    python.run("z.snapshot('one')")
    python.run("1")
    number = python.attempt("z.restore('one')  # here").number
    assert python.run(f"In[{number}]") == repr("z.restore('one')  # here")
    assert python.run("len(In)") == str(number + 3)


def test_run_all_goes_on_behind_a_restore(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    python.run("x = 2")
    python.client.execute("import time; time.sleep(0.5)\nz.restore('one')")
    for _ in range(5):
        python.client.execute("x = x * 2 + 1")
    assert python.attempt("print(x)").text == "63\n"


def test_children_of_the_kernel_that_leaves_do_not_stay(python: Kernel) -> None:
    python.run("z.snapshot('one')")
    child = int(python.run("import subprocess; subprocess.Popen(['sleep', '1000']).pid"))
    python.run("z.restore('one')")
    eventually(lambda: not psutil.pid_exists(child))


def test_what_cannot_be_restored_is_an_error_in_the_cell_and_no_more(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    python.run("x = 2")

    assert "SnapshotNotFound" in python.attempt("z.restore('nothing')").error
    image = next(snapshot.show("one").images.glob("pages-*.img"))
    content = bytearray(image.read_bytes())
    content[len(content) // 2] ^= 1
    image.write_bytes(content)
    error = python.attempt("z.restore('one')").error

    assert error.startswith("SnapshotCorrupt")
    assert image.name in error
    assert python.run("x") == "2"
    assert psutil.Process(python.pid).children() == []


def test_the_same_in_a_restored_kernel(python: Kernel) -> None:
    python.run("x = 1\nz.snapshot('one')")
    python.run("z.restore('one')")
    python.run("x = 2")
    image = next(snapshot.show("one").images.glob("core-*.img"))
    image.write_bytes(image.read_bytes()[:-1])

    assert python.attempt("z.restore('one')").error.startswith("SnapshotCorrupt")
    assert python.run("x") == "2"
    assert "SnapshotNotFound" in python.attempt("z.restore('nothing')").error
    assert python.run("x") == "2"
