"""What each action of `%zs_snapshot` does and shows."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError

from zerostart_jupyter import snapshot as engine
from zerostart_jupyter.core.wording import seconds, size
from zerostart_jupyter.jupyter import where

if TYPE_CHECKING:
    from zerostart_jupyter.core.settings import Settings


@dataclass(frozen=True)
class Text:
    """Something whose repr is a text of several lines."""

    text: str

    def __repr__(self) -> str:
        return self.text


def run(action: str, names: Sequence[str], args: argparse.Namespace, settings: Settings) -> Any:
    """Carry out one action; what comes back is shown as the cell's result."""
    if args.park and action != "save":
        raise UsageError(f"%zs_snapshot {action}: --park goes with save")
    if action == "save":
        return engine.snapshot(
            names[0],
            tier=args.tier,
            replace=args.replace,
            park=args.park,
            notebook=where.notebook(),
            from_undo=args.from_undo,
            settings=settings,
        )
    if action == "restore":
        return engine.restore(names[0], trust_it=args.trust, settings=settings)
    if action == "import":
        return engine.import_(*names, trust=args.trust, settings=settings)
    if action == "list":
        return Text(table(engine.snapshots(settings=settings)))
    if action == "doctor":
        from zerostart_jupyter.doctor import doctor
        from zerostart_jupyter.doctor import table as as_table

        return Text(as_table(doctor()))
    if action == "auto":
        return engine.auto(names[0] == "on", settings=settings)
    if action == "undo":
        engine.undo(_cells(names))
    done = getattr(engine, action)(*names, settings=settings)
    if action == "delete":
        return Text(f"Deleted snapshot {done.name!r}: {size(done.bytes)} are free again.")
    if action == "publish":
        return Text(f"Choose the kernel 'Snapshot {names[0]}', or run {done.name} anywhere.")
    return done


def _cells(names: Sequence[str]) -> int:
    """How many cells to undo: one, if nothing was said."""
    if not names:
        return 1
    try:
        return int(names[0])
    except ValueError as error:
        raise UsageError(f"%zs_snapshot undo: {names[0]!r} is not a number of cells") from error


def table(found: Sequence[Any]) -> str:
    """Snapshots as lines: name, when, size, GPU bytes, tier, what a restore saves, notebook."""
    if not found:
        return "No snapshots yet. Save one with: %zs_snapshot save NAME"
    import datetime

    rows = [("name", "created", "size", "gpu", "tier", "restore", "re-run", "notebook")]
    for each in found:
        created = datetime.datetime.fromtimestamp(each.created).strftime("%Y-%m-%d %H:%M")
        rows.append(
            (
                each.name,
                created,
                size(each.bytes),
                size(each.gpu_bytes) if each.gpu_bytes else "-",
                each.tier + (" (pinned)" if each.pinned else ""),
                f"~{seconds(each.restore_seconds)}",
                seconds(each.kernel_seconds) if each.kernel_seconds else "-",
                str(each.notebook or "-"),
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    )
