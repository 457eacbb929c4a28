"""`zerostart bench install|load|snapshot`: each engine beside its peers on this machine."""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from pathlib import Path

HELP = "measure an engine beside its peers on this machine"
ENGINES = ("install", "load", "snapshot")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The engine, the rounds, where to write."""
    parser.add_argument("engine", choices=ENGINES)
    parser.add_argument("--rounds", type=int, default=5, help="rounds of each case (default 5)")
    parser.add_argument("--json", metavar="FILE", type=Path, help="write every round as JSON")
    parser.add_argument("--report", metavar="FILE.html", type=Path, help="write a page")


def run(args: argparse.Namespace) -> int:
    """Measure, print the table, write the files that were asked for."""
    module = importlib.import_module(f"zerostart_jupyter.bench.{args.engine}")
    report = module.measure(args.rounds, lambda text: print(text, file=sys.stderr, flush=True))
    if args.json:
        args.json.write_text(json.dumps(report.as_json(), indent=1))
    if args.report:
        args.report.write_text(report.html())
    print(report.markdown())
    return 0
