"""The commands that are compared, each as a person would type it."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable

from zerostart_jupyter.bench.install.turns import Sample, Subject, Turn, python
from zerostart_jupyter.install.resolve import find_uv

OURS, UV = "zerostart", "uv"
_SCRIPT = "print(1)\n"
# What a notebook does, without a notebook: install in the background, import at once.
_IMPORT = """
import importlib, os, sys
from zerostart_jupyter.install import IndexOptions, gather, install
module, url, *specs = sys.argv[1:]
install(request=gather(specs, index=IndexOptions(index_url=url)), wait=False)
importlib.import_module(module)
os._exit(0)
"""


def cold() -> dict[str, Subject]:
    """The whole command, with nothing there."""
    return {OURS: Subject(lambda turn: turn.timed(ours(turn))), UV: _uv_cold()}


def from_store() -> dict[str, Subject]:
    """A new environment of wheels that are all in the subject's own store.

    The last one is moved aside and stays to the end: ext4 is slow to make files where as many
    were just removed.
    """

    def aside(turn: Turn, made: str) -> None:
        number = len(list(turn.scratch.glob("aside-*")))
        (turn.scratch / made).rename(turn.scratch / f"aside-{number}")

    def our_turn(turn: Turn) -> Sample:
        aside(turn, "cache/environments")
        return turn.timed(ours(turn))

    def uvs_turn(turn: Turn) -> Sample:
        aside(turn, "target")
        return turn.timed(uv(turn))

    return {
        OURS: Subject(our_turn, lambda turn: turn.run(ours(turn))),
        UV: Subject(uvs_turn, lambda turn: turn.run(uv(turn))),
    }


def first_import(module: str) -> dict[str, Subject]:
    """Until one import has returned, beside the whole of uv's install."""

    def our_turn(turn: Turn) -> Sample:
        return turn.timed(python(_IMPORT, module, turn.index.url, *turn.specs))

    return {OURS: Subject(our_turn), UV: _uv_cold()}


def warm_run() -> dict[str, Subject]:
    """A script that needs packages which are all there from the last time."""

    def our_run(turn: Turn) -> list[str]:
        command = [*_zerostart(), "run", "--index-url", turn.index.url]
        return [*command, "-r", "requirements.txt", "script.py"]

    def uv_run(turn: Turn) -> list[str]:
        command = [find_uv(), "run", "--quiet", "--no-project", "--python", sys.executable]
        command += ["--default-index", turn.index.url, "--with-requirements", "requirements.txt"]
        return [*command, "script.py"]

    def prepared(command: Callable[[Turn], list[str]]) -> Subject:
        def prepare(turn: Turn) -> None:
            (turn.scratch / "script.py").write_text(_SCRIPT)
            (turn.scratch / "requirements.txt").write_text("\n".join(turn.specs))
            turn.run(command(turn))

        return Subject(lambda turn: turn.timed(command(turn)), prepare)

    return {OURS: prepared(our_run), UV: prepared(uv_run)}


def ours(turn: Turn) -> list[str]:
    """Our install."""
    command = [*_zerostart(), "install", "--json"]
    return [*command, "--index-url", turn.index.url, *turn.specs]


def _zerostart() -> list[str]:
    """The program of this interpreter's environment, which a person would type."""
    program = shutil.which("zerostart", path=os.path.dirname(sys.executable))
    return [program] if program else [sys.executable, "-m", "zerostart"]


def _uv_cold() -> Subject:
    return Subject(lambda turn: turn.timed(uv(turn)))


def uv(turn: Turn) -> list[str]:
    """uv's install."""
    command = [find_uv(), "pip", "install", "--quiet", "--default-index", turn.index.url]
    command += ["--python", sys.executable, "--target", str(turn.scratch / "target")]
    return [*command, *turn.specs]
