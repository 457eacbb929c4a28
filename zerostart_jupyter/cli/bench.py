"""`zerostart bench install|load|snapshot`: each engine beside its peers on this machine."""

from __future__ import annotations

import argparse
import compileall
import importlib
import json
import sys
from pathlib import Path

import zerostart_jupyter
from zerostart_jupyter.core.errors import SettingsError

HELP = "measure an engine beside its peers on this machine"
ENGINES = ("install", "load", "snapshot")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The engine, the rounds, where to write."""
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (default 5)")
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="NAME",
        dest="sets",
        help="install: only one, five, torch, science, tiny or clients; may be repeated",
    )
    parser.add_argument(
        "--row", default="", metavar="TEXT", help="install: only rows whose name has this in it"
    )
    parser.add_argument(
        "--add",
        metavar="FILE",
        type=Path,
        action="append",
        default=[],
        help="count the rounds of an earlier --json too; --rounds 0 measures nothing more",
    )
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every round as JSON")
    parser.add_argument("--report", metavar="FILE.html", type=Path, help="write a page")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the files that were asked for."""
    options = {"sets": args.sets, "only": args.row} if args.engine == "install" else {}
    if not options and (args.sets or args.row):
        raise SettingsError(
            f"The measurements of {args.engine} have no sets.", remedy="Leave out --set and --row."
        )
    module = importlib.import_module(f"zerostart_jupyter.bench.{args.engine}")

    def note(text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    # As pip leaves a package; where bytecode is not written, each process would compile it again.
    compileall.compile_dir(Path(zerostart_jupyter.__file__).parent, quiet=2)
    report = module.measure(args.rounds, note, **options)
    for earlier in args.add:
        report = report.including(json.loads(earlier.read_text()))
    if args.json:
        args.json.write_text(json.dumps(report.as_json(), indent=1))
    if args.report:
        args.report.write_text(report.html())
    print(report.markdown())
    return 0
