"""`zerostart snapshot …`: the catalogue, kernelspecs and clones from a shell."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from typing import Any

from zerostart_jupyter.cli import output

HELP = "list, show, rename, delete, publish, verify or clone snapshots of kernels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command an action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (help_, operands) in _ACTIONS.items():
        action = actions.add_parser(name, help=help_, description=help_)
        for operand in operands:
            action.add_argument(operand.lower(), metavar=operand)
        output.add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do it; raises SnapshotNotFound and what else the engine raises."""
    globals()[f"_{args.action}"](args)
    return 0


_ACTIONS: dict[str, tuple[str, Sequence[str]]] = {
    "list": ("all snapshots, oldest first", ()),
    "show": ("all that is known of one", ("NAME",)),
    "rename": ("give one another name", ("OLD", "NEW")),
    "delete": ("remove one; kernels restored from it live on", ("NAME",)),
    "publish": ("make one a kernel to choose in any client", ("NAME",)),
    "verify": ("read all of one and compare it with its digests", ("NAME",)),
    "clone": ("start a kernel from one, by itself", ("NAME",)),
}


def _list(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.snapshots()
    output.emit(args, [each.as_json() for each in found], "\n".join(map(_line, found)) or _NONE)


def _show(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.show(args.name)
    manifest = found.manifest()
    body = found.as_json() | {
        "criu": manifest.criu,
        "python": manifest.python,
        "machine": manifest.machine,
        "sockets": list(manifest.sockets),
    }
    width = max(map(len, body))
    text = "\n".join(f"{name:<{width}}  {_plain(name, value)}" for name, value in body.items())
    output.emit(args, body, text)


def _rename(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.rename(args.old, args.new)
    output.emit(args, found.as_json(), f"Snapshot {args.old!r} is {found.name!r} now.")


def _delete(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot
    from zerostart_jupyter.core.wording import size

    found = snapshot.delete(args.name)
    text = f"Deleted snapshot {found.name!r}: {size(found.bytes)} are free again."
    output.emit(args, found.as_json(), text)


def _publish(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    folder = snapshot.publish(args.name)
    body = {"kernelspec": folder.name, "path": str(folder)}
    output.emit(args, body, f"Kernel {folder.name!r} is there to choose: {folder}")


def _verify(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.verify(args.name)
    output.emit(args, found.as_json(), f"Snapshot {found.name!r} is as it was written.")


def _clone(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    clone = snapshot.clone(args.name)
    path = clone.connection_file
    body = {"snapshot": clone.snapshot, "pid": clone.pid, "connection_file": str(path)}
    text = f"A clone of {clone.snapshot!r} runs: jupyter console --existing {path.name}"
    output.emit(args, body, text)


_NONE = "No snapshots yet. Save one in a notebook with: %zs_snapshot save NAME"


def _line(found: Any) -> str:
    from zerostart_jupyter.core.wording import size

    created = datetime.datetime.fromtimestamp(found.created).strftime("%Y-%m-%d %H:%M")
    return (
        f"{found.name:<24} {created}  {size(found.bytes):>10}  {found.tier}  {found.notebook or ''}"
    )


def _plain(name: str, value: Any) -> str:
    from zerostart_jupyter.core.wording import seconds, size

    if name == "created":
        return datetime.datetime.fromtimestamp(value).isoformat(sep=" ", timespec="seconds")
    if name in ("bytes", "gpu_bytes"):
        return size(value)
    if name.endswith("seconds"):
        return seconds(value)
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return "-" if value is None else str(value)
