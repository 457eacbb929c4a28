"""`zerostart COMMAND …`: finds the command's module and turns errors into one line.

A command module has `HELP`, `add_arguments(parser)` and `run(args) -> exit code`.
Exit codes: 0 done, 1 failed (one line on stderr that names the remedy), 2 usage.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from functools import partial
from types import ModuleType

from zerostart_jupyter import __version__
from zerostart_jupyter.core.errors import ZerostartError

COMMANDS = ("run", "install", "load", "snapshot", "doctor", "setup", "cache", "bench")
# argparse makes one for each argument. To find out how wide the terminal is takes longer than all
# the rest, and only help is laid out by it.
_FIXED = partial(argparse.HelpFormatter, width=78)
INTERRUPTED = 130  # 128 + SIGINT, what a shell expects of an interrupted command


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    args = _parser(words).parse_args(words)
    try:
        return int(_module(args.command).run(args))
    except ZerostartError as error:
        print(f"zerostart {args.command}: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print(f"zerostart {args.command}: interrupted", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # Whoever read our output has left: nothing more to say, not even at exit.
        sys.stdout = None
        return 1


def _parser(words: Sequence[str]) -> argparse.ArgumentParser:
    shown = _FIXED if {"-h", "--help"}.isdisjoint(words) else argparse.HelpFormatter
    parser = argparse.ArgumentParser(
        prog="zerostart",
        formatter_class=shown,
        description="Packages that stream in, weights at disk speed, kernels that come back.",
    )
    parser.add_argument("--version", action="version", version=f"zerostart {__version__}")
    commands = parser.add_subparsers(  # `prog`, or argparse would lay out a help text to find it
        dest="command", metavar="COMMAND", required=True, prog="zerostart"
    )
    named = next((word for word in words if not word.startswith("-")), None)
    for name in (named,) if named in COMMANDS else COMMANDS:  # only what runs is imported
        module = _module(name)
        command = commands.add_parser(
            name, help=module.HELP, description=module.HELP, formatter_class=shown
        )
        module.add_arguments(command)
    return parser


def _module(command: str) -> ModuleType:
    return importlib.import_module(f"zerostart_jupyter.cli.{command}")
