"""`zerostart install`: the environment that has what was asked for, made or found."""

from __future__ import annotations

import argparse
from pathlib import Path

from zerostart_jupyter.cli import asked, output
from zerostart_jupyter.core import wording
from zerostart_jupyter.core.errors import RequirementError

HELP = "make or find the cached environment for some requirements, and print where it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument("requirements", nargs="*", metavar="REQ", help="as pip writes it")
    asked.add_file_argument(parser)
    asked.add_index_arguments(parser)
    parser.add_argument(
        "--dry-run", action="store_true", help="say what would be fetched, fetch nothing"
    )
    parser.add_argument(
        "--verify", action="store_true", help="compare every installed file with its hash"
    )
    parser.add_argument(
        "--save",
        type=Path,
        metavar="FILE",
        help="keep what is named in the PEP 723 block of a script or notebook that is not open",
    )
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Install into the cache; this process's own path stays as it is."""
    from zerostart_jupyter import install as engine

    if args.save is not None:
        _check(args)
    request = engine.gather(
        args.requirements, files=args.requirement, index=asked.index_options(args)
    )
    with output.progress(args):
        if args.dry_run:
            plan = engine.plan(request, activate=False)
            body = {"environment": str(plan.environment), "warm": plan.warm, "bytes": plan.bytes}
            missing = [each.wheel for each in plan.missing]
            output.emit(args, {**body, "missing": missing}, plan.table())
            return 0
        found = engine.install(request=request, activate=False, verify=args.verify)
    if args.save is not None:
        from zerostart_jupyter.install import cells

        cells.save(args.save, args.requirements)
    how = "was there"
    if not found.warm:
        how = f"{wording.size(found.bytes_downloaded)} fetched in {wording.seconds(found.seconds)}"
    output.emit(
        args,
        found.as_json(),
        f"{found.environment}\n{wording.counted(found.wheels, 'wheel')}, {how}.",
    )
    return 0


def _check(args: argparse.Namespace) -> None:
    from zerostart_jupyter.install import blocks

    blocks.check(args.requirements)
    if not args.requirements or args.requirement or not args.save.is_file():
        raise RequirementError(
            "Only requirements that are named here can be saved, into a file that is there.",
            remedy="Write `zerostart install NAME --save FILE`.",
        )
