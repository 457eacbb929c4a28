"""`zerostart setup criu | kernel`: brings in what snapshots need, without root."""

from __future__ import annotations

import argparse
import time
from typing import Any

from zerostart_jupyter.cli import output

HELP = "bring in what snapshots need (criu, kernel)"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """What to set up, and `--force`."""
    parser.add_argument(
        "what",
        choices=["criu", "kernel"],
        help="CRIU 4.2 or newer, unpacked into the cache; a kernel that needs no root to be saved",
    )
    parser.add_argument("--force", action="store_true", help="fetch it even if one is there")
    output.add_json(parser)


def run(args: argparse.Namespace) -> int:
    """Set up what was named, and say so."""
    return _kernel(args) if args.what == "kernel" else _criu(args)


def _kernel(args: argparse.Namespace) -> int:
    from zerostart_jupyter.snapshot import kernelspec, permission

    folder = kernelspec.install()
    spaces = permission.namespaces()
    body = {"kernelspec": folder.name, "path": str(folder), "namespaces": spaces.as_json()}
    text = f"Kernel {kernelspec.DISPLAY_NAME!r} is there to choose: {folder}"
    if not spaces:
        text += f"\nIts kernels can only be saved by their names: {spaces.reason} {spaces.remedy}"
    output.emit(args, body, text)
    return 0


def _criu(args: argparse.Namespace) -> int:
    """Say each step and how long it took; a CRIU that is there already is left alone."""
    from zerostart_jupyter.core.errors import CriuMissing
    from zerostart_jupyter.core.settings import Settings
    from zerostart_jupyter.snapshot import criu
    from zerostart_jupyter.snapshot.fetch import fetch

    settings = Settings.read()
    began = time.monotonic()
    steps: list[dict[str, Any]] = []

    def told(step: str, seconds: float) -> None:
        steps.append({"step": step, "seconds": seconds})
        output.emit(args, {}, f"{step}: {seconds:.1f} s") if not args.json else None

    found = None
    if not args.force:
        try:
            found = criu.find(settings)
        except CriuMissing:
            found = None
    fetched = found is None
    if found is None:
        with output.progress(args):
            found = fetch(settings, told)
    seconds = time.monotonic() - began
    body = {
        "criu": found.command[-1],
        "version": found.version,
        "fetched": fetched,
        "seconds": seconds,
        "steps": steps,
    }
    how = f"ready after {seconds:.1f} s" if fetched else "is there already"
    output.emit(args, body, f"CRIU {found.version} {how}: {found.command[-1]}")
    return 0
