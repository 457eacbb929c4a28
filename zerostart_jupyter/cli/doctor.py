"""`zerostart doctor`: what works here, what does not, why, and the next step."""

from __future__ import annotations

import argparse

from zerostart_jupyter.cli import output

HELP = "say what works here, what does not, why, and the next step"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Only `--json`."""
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Print the table; what does not work here is a finding, not a failure."""
    from zerostart_jupyter.doctor import doctor, table

    found = doctor()
    output.emit(args, [each.as_json() for each in found], table(found))
    return 0
