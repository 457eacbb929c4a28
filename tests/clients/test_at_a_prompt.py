"""IPython in a terminal and `jupyter console`, typed into through a real terminal (pty(7))."""

from __future__ import annotations

import re
import signal
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pexpect
import pytest

from tests.patience import PATIENCE
from tests.servers.index import Index

WORK = """
import threading, time
from zerostart_jupyter.core.events import operation

enough = threading.Event()

def work(rounds):
    with operation("install", "it") as op:
        for done in range(rounds):
            op.check()
            op.update("w", done << 20, rounds << 20)
            op.update("", done << 20, rounds << 20)
            if enough.wait(0.05):
                break

behind = threading.Thread(target=work, args=(900,), daemon=True)
"""
BAR = (
    r"\rInstalling it  [━ ]{6,24} +\d+%  [\d.]+ MiB of [\d.]+ MiB, [\d.]+ MB/s"
    r"  [\d.]+ s left  w *(?=\r)"
)


class Terminal:
    """A terminal in which somebody types at the prompt of IPython."""

    def __init__(self, child: pexpect.spawn[str]) -> None:
        self.child = child
        self.number = 1
        self.child.expect_exact("In [1]: ")

    def run(self, line: str) -> str:
        """Type a line, and wait for the next prompt; returns what came before it."""
        self.begin(line)
        return self.end()

    def begin(self, line: str) -> None:
        """Type a line."""
        self.child.sendline(line)
        self.child.expect_exact(line)  # the terminal's echo
        self.number += 1

    def end(self) -> str:
        """Wait for the next prompt; returns what came before it."""
        self.child.expect_exact(f"In [{self.number}]: ")
        return str(self.child.before)


@contextmanager
def typed(module: str, folder: Path, *options: str) -> Iterator[Terminal]:
    (folder / "slow_work.py").write_text(WORK)
    child = pexpect.spawn(
        sys.executable,
        ["-m", module, "--simple-prompt", *options],
        cwd=str(folder),
        encoding="utf-8",
        timeout=PATIENCE,
        dimensions=(50, 200),
        # A terminal's programs hear Ctrl-C, whoever ran the tests in the background of a shell.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )
    try:
        yield Terminal(child)
        child.sendline("exit")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)


@pytest.fixture(scope="module")
def ipython(home: Path) -> Iterator[Terminal]:
    with typed("IPython", home, "--colors=NoColor", "--no-banner") as made:
        made.run("%load_ext zerostart")
        yield made


@pytest.fixture(scope="module")
def console(home: Path) -> Iterator[Terminal]:
    with typed("jupyter_console", home) as made:
        made.run("%load_ext zerostart")
        yield made


@pytest.fixture(params=["ipython", "console"])
def terminal(request: pytest.FixtureRequest) -> Terminal:
    found: Terminal = request.getfixturevalue(request.param)
    return found


@pytest.mark.criu
def test_install_and_load_work(terminal: Terminal, index: Index, weights: Path) -> None:
    said = terminal.run(f"%zs_install quick --wait --index-url {index.url}")
    assert "✓ Installed quick" in said
    assert "there" in terminal.run("import quick; print(quick.word)")
    assert "✓ Loaded model.safetensors" in terminal.run("%zs_load model.safetensors --into w")
    assert "['weight']" in terminal.run("print(sorted(w))")


@pytest.mark.criu
def test_a_bar_is_written_over_and_ends_as_one_line(terminal: Terminal) -> None:
    said = terminal.run("import slow_work; slow_work.work(20)")
    assert len(re.findall(BAR, said)) >= 2
    assert re.search(r"\r✓ Installed it: 19.0 MiB in [\d.]+ s *\r?\n\s*$", said)
    assert said.count("✓") == 1


@pytest.mark.criu
def test_an_interrupt_leaves_a_line_that_says_so(terminal: Terminal) -> None:
    terminal.begin("import slow_work; slow_work.work(2000)")
    terminal.child.expect("MB/s")
    terminal.child.sendintr()
    said = terminal.end()
    assert re.search(r"\r✗ Installing it was cancelled. *\r?\n", said)
    assert "KeyboardInterrupt" in said
    assert not re.findall(BAR, said[said.index("✗") :])
    assert "on" in terminal.run("print('o' + 'n')")


@pytest.mark.criu
def test_what_goes_on_behind_the_prompt_draws_nothing_there(ipython: Terminal) -> None:
    ipython.begin("import slow_work; slow_work.behind.start(); _ = input('wait')")
    ipython.child.expect(BAR)
    ipython.child.sendline("")
    assert re.search(r"\r +\r\s*$", ipython.end())  # wiped away
    assert "Installing" not in ipython.run("slow_work.enough.wait(0.5);")
    said = ipython.run("slow_work.enough.set(); slow_work.behind.join()")
    assert "✓ Installed it" in said


@pytest.mark.criu
def test_ipython_says_in_one_line_why_it_saves_nothing(ipython: Terminal) -> None:
    for action in ("save here", "restore here", "undo", "park"):
        (line,) = ipython.run(f"%zs_snapshot {action}").split("\r\n")[1:-2]
        assert "This process is not a Jupyter kernel. Run it in a cell of a notebook." in line
    assert "No snapshots yet" in ipython.run("%zs_snapshot list")


@pytest.mark.criu
def test_jupyter_console_saves_and_restores(console: Terminal) -> None:
    console.run("x = 1")
    assert "Saved snapshot 'here'" in console.run("%zs_snapshot save here")
    console.run("x = 2")
    console.begin("%zs_snapshot restore here")
    console.child.expect(r"In \[\d+\]: ")
    console.child.sendline("print('x is', x)")
    console.child.expect_exact("x is 1")


@pytest.mark.criu
def test_a_snapshot_is_a_kernel_of_jupyter_console(published: Path) -> None:
    with typed("jupyter_console", published, "--kernel=zerostart-one") as console:
        console.begin("print('it is', double(x))")
        console.child.expect_exact("it is 2")
        console.child.expect(r"In \[\d+\]: ")
        console.child.sendline("import time; x = 5; print('now', flush=True); time.sleep(1000)")
        console.child.expect_exact("now\r\n")
        console.child.sendintr()
        console.child.expect_exact("KeyboardInterrupt")
        console.child.expect(r"In \[\d+\]: ")
        console.child.sendline("print('x is', x)")
        console.child.expect_exact("x is 5")
