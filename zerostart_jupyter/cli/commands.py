"""The commands and their options.

A command module has `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.
"""

from __future__ import annotations

import argparse
import importlib
from collections.abc import Sequence
from functools import partial
from types import ModuleType

from zerostart_jupyter import __version__

COMMANDS = ("run", "install", "load", "snapshot", "doctor", "setup", "cache", "bench")
# argparse makes one for each argument. To find out how wide the terminal is takes longer than all
# the rest, and only help is laid out by it.
_FIXED = partial(argparse.HelpFormatter, width=78)


def parser(words: Sequence[str]) -> argparse.ArgumentParser:
    """What reads these words: with the options of the command that they name, or of all."""
    shown = _FIXED if {"-h", "--help"}.isdisjoint(words) else argparse.HelpFormatter
    made = argparse.ArgumentParser(
        prog="zerostart",
        formatter_class=shown,
        description="Packages that stream in, weights at disk speed, kernels that come back.",
    )
    made.add_argument("--version", action="version", version=f"zerostart {__version__}")
    commands = made.add_subparsers(  # `prog`, or argparse would lay out a help text to find it
        dest="command", metavar="COMMAND", required=True, prog="zerostart"
    )
    named = next((word for word in words if not word.startswith("-")), None)
    for name in (named,) if named in COMMANDS else COMMANDS:  # only what runs is imported
        found = module(name)
        command = commands.add_parser(
            name, help=found.HELP, description=found.HELP, formatter_class=shown
        )
        found.add_arguments(command)
    return made


def module(command: str) -> ModuleType:
    """The module of a command."""
    return importlib.import_module(f"zerostart_jupyter.cli.{command}")
