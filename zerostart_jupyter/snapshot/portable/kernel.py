"""An ordinary ipykernel that begins with a portable snapshot: run as a program.

The shepherd becomes this program where a snapshot is portable, so every client starts it the same
way. It has no parent of ours and no namespace: its process is its own.
"""

from __future__ import annotations

import argparse
import atexit
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import SnapshotError, ZerostartError
from zerostart_jupyter.core.settings import Settings
from zerostart_jupyter.core.status import StatusFile
from zerostart_jupyter.snapshot import trust, wire
from zerostart_jupyter.snapshot.catalog import Catalog
from zerostart_jupyter.snapshot.launch import status_directory
from zerostart_jupyter.snapshot.portable import restoring


def main(argv: Sequence[str] | None = None) -> int:
    """Start, restore, serve; returns when the kernel is shut down."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", required=True, help="name or id")
    parser.add_argument("-f", "--connection-file", required=True, type=Path)
    parser.add_argument("--ready", type=int, help="descriptor to tell when it answers (internal)")
    parser.add_argument("--own-file", action="store_true", help="remove it at the end (internal)")
    given, others = parser.parse_known_args(argv)
    if given.own_file:
        atexit.register(given.connection_file.unlink, missing_ok=True)
    try:
        app = _begin(given.snapshot, given.connection_file.absolute(), others)
    except ZerostartError as error:
        print(f"{type(error).__name__}: {error}", file=sys.__stderr__, flush=True)
        _tell(given.ready, wire.describe(error))
        return 1
    _tell(given.ready, {"kind": "bound", "pid": os.getpid()})
    app.start()
    return 0


def _begin(snapshot: str, file: Path, others: Sequence[str]) -> Any:
    from ipykernel.kernelapp import IPKernelApp

    settings = Settings.read()
    catalog = Catalog(settings)
    info = catalog.get(snapshot)
    trust.require(catalog, info)
    restoring.check(info)
    app = IPKernelApp.instance()
    app.initialize(["-f", str(file), *others])
    about = {"kernel": file.stem, "connection_file": str(file)}
    progress = StatusFile(status_directory(file), "shepherd", about)
    try:
        restoring.restore(info, app.shell, settings, fresh=True)
    except ZerostartError:
        raise
    except Exception as error:
        raise SnapshotError(
            f"Snapshot {info.name!r} did not come back: {type(error).__name__}: {error}",
            remedy="Restore it into a running kernel to see where it fails.",
        ) from error
    finally:
        progress.close()
    return app


def _tell(ready: int | None, message: wire.Message) -> None:
    if ready is not None:
        try:
            wire.send(ready, message)
            os.close(ready)
        except OSError:  # nobody waits any more
            return


if __name__ == "__main__":
    raise SystemExit(main())
