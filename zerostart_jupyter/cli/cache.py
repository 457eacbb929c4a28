"""`zerostart cache`: what the cache holds, where it is, and making room."""

from __future__ import annotations

import argparse
import time

from zerostart_jupyter.cli import output
from zerostart_jupyter.core import wording
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.store import Store

HELP = "list or prune the cache of wheels, environments and models, or say where it is"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's options."""
    parser.add_argument(
        "action", nargs="?", default="list", choices=("list", "prune", "dir"), help="default: list"
    )
    parser.add_argument(
        "--days",
        type=float,
        default=30.0,
        help="prune what was not used for so many days (default 30); 0 for all that is not in use",
    )
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """List, prune, or print the directory."""
    settings = Settings.read()
    if args.action == "dir":
        output.emit(args, {"cache": str(settings.cache)}, str(settings.cache))
        return 0
    from zerostart_jupyter import snapshot
    from zerostart_jupyter.install import inventory
    from zerostart_jupyter.load.cache import ModelCache

    store = Store(settings.cache)
    models = ModelCache(settings=settings)
    if args.action == "prune":
        gone = models.prune(days=args.days)
        removed, freed = inventory.prune(store, days=args.days)
        removed, freed = removed + len(gone), freed + sum(each.bytes for each in gone)
        snapshot.gc(settings=settings)
        body = {"removed": removed, "bytes": freed}
        output.emit(args, body, f"Removed {removed} entries, {wording.size(freed)}.")
        return 0
    items = [each.as_json() for each in inventory.inventory(store)]
    items += [
        {**each.as_json(), "kind": "model", "name": each.source} for each in models.list_entries()
    ]
    lines = [
        f"{each['kind']:<12} {wording.size(each['bytes']):>10}  {_ago(each['used']):>8}  "
        f"{each['name']}"
        for each in items
    ]
    output.emit(args, items, "\n".join(lines) or "The cache is empty.")
    return 0


def _ago(when: float) -> str:
    hours = max(0.0, time.time() - when) / 3600
    return f"{hours:.0f} h ago" if hours < 48 else f"{hours / 24:.0f} d ago"
