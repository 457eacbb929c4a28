"""`zerostart snapshot …`: the catalogue, kernelspecs and clones from a shell."""

from __future__ import annotations

import argparse
import datetime
from collections.abc import Sequence
from typing import Any

from zerostart_jupyter.cli import output

HELP = "list, show, export, import, publish, clone and collect snapshots of kernels"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """One sub-command an action."""
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    for name, (help_, operands) in _ACTIONS.items():
        action = actions.add_parser(name, help=help_, description=help_)
        for operand in operands:
            optional: dict[str, Any] = {"nargs": "?"} if operand.startswith("[") else {}
            word = operand.strip("[]")
            action.add_argument(word.lower(), metavar=word, **optional)
        for option, given in _OPTIONS.get(name, {}).items():
            action.add_argument(option, **given)
        output.add_json(action)


def run(args: argparse.Namespace) -> int:
    """Do it; raises SnapshotNotFound and what else the engine raises."""
    with output.progress(args):
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
    "export": ("write one to a file, or into a folder that exists", ("NAME", "FILE")),
    "import": ("take in what was exported", ("FILE", "[NAME]")),
    "pin": ("keep one from being collected", ("NAME",)),
    "unpin": ("let one be collected again", ("NAME",)),
    "gc": ("remove what nobody needs; published and pinned ones stay", ()),
}
_OPTIONS: dict[str, dict[str, dict[str, Any]]] = {
    "import": {
        "--trust": {
            "action": "store_true",
            "help": "let it be restored, which runs code that its maker chose",
        }
    },
    "gc": {
        "--keep-gb": {
            "type": float,
            "help": "the oldest snapshots go until all take so many GiB; none without it",
        },
        "--dry-run": {"action": "store_true", "help": "say what would go, remove nothing"},
    },
}


def _list(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.snapshots()
    output.emit(args, [each.as_json() for each in found], "\n".join(map(_line, found)) or _NONE)


def _show(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.show(args.name)
    body = found.as_json() | found.more()
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


def _export(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    done = snapshot.export(args.name, args.file)
    output.emit(args, done.as_json(), repr(done))


def _import(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.import_(args.file, args.name, trust=args.trust)
    text = f"Imported snapshot {found.name!r}."
    if not found.trusted:
        text += " Restoring it runs its maker's code: it will ask for --trust."
    output.emit(args, found.as_json(), text)


def _pin(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.pin(args.name)
    output.emit(args, found.as_json(), f"Snapshot {found.name!r} is kept.")


def _unpin(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot

    found = snapshot.unpin(args.name)
    output.emit(args, found.as_json(), f"Snapshot {found.name!r} may be collected.")


def _gc(args: argparse.Namespace) -> None:
    from zerostart_jupyter import snapshot
    from zerostart_jupyter.core.wording import size

    limit = None if args.keep_gb is None else int(args.keep_gb * (1 << 30))
    gone = snapshot.gc(keep_bytes=limit, dry_run=args.dry_run)
    names = ", ".join(each.name for each in gone) or "no snapshot"
    would = "Would remove" if args.dry_run else "Removed"
    text = f"{would} {names}: {size(sum(each.bytes for each in gone))}."
    output.emit(args, [each.as_json() for each in gone], text)


_NONE = "No snapshots yet. Save one in a notebook with: %zs_snapshot save NAME"


def _line(found: Any) -> str:
    from zerostart_jupyter.core.wording import seconds, size

    created = datetime.datetime.fromtimestamp(found.created).strftime("%Y-%m-%d %H:%M")
    times = f"~{seconds(found.restore_seconds)}"
    if found.kernel_seconds:
        times += f" instead of {seconds(found.kernel_seconds)}"
    about = f"{found.name:<24} {created}  {size(found.bytes):>10}  {found.tier:<8}"
    return f"{about}  {times:<28}  {found.notebook or ''}".rstrip()


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
