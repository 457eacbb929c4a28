"""The ordinary process that stands for a restored kernel: it is run as a program.

A restored kernel's process id means nothing to the client that started it. The client owns the
shepherd instead: it signals it, waits for it, restarts it, and sees it end as the kernel ended.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from zerostart_jupyter.snapshot import apart


def main(argv: Sequence[str] | None = None) -> int:
    """Restore, and stay until the kernel has ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--snapshot", required=True, help="name or id")
    parser.add_argument("-f", "--connection-file", required=True, type=Path)
    parser.add_argument("--adopt", help="take over a kernel that is restored already (internal)")
    parser.add_argument("--ready", type=int, help="descriptor to tell when it answers (internal)")
    parser.add_argument("--detach", action="store_true", help="leave the caller's process tree")
    given, _ = parser.parse_known_args(argv)  # clients add options that are for ipykernel
    if given.detach:
        _detach()
    # Before what follows is imported: each of the two has its own to import.
    place = None if given.adopt else apart.fork(alone=True)

    from zerostart_jupyter.core.errors import ZerostartError
    from zerostart_jupyter.snapshot import tiers
    from zerostart_jupyter.snapshot.catalog import Catalog
    from zerostart_jupyter.snapshot.herd import Shepherd
    from zerostart_jupyter.snapshot.launch import end_like

    shepherd = Shepherd(given.connection_file.absolute(), given.ready)
    try:
        if place is None:
            shepherd.adopt(given.snapshot, int(given.adopt))
        elif Catalog().get(given.snapshot).tier == tiers.PORTABLE:
            place.end()
            _become_kernel(given)
        else:
            shepherd.begin(given.snapshot, place)
        status = shepherd.watch()
        shepherd.collect()
    except ZerostartError as error:
        shepherd.fail(error)
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    finally:
        if given.detach:
            given.connection_file.unlink(missing_ok=True)
    return end_like(status)


def _become_kernel(given: argparse.Namespace) -> None:
    """A portable snapshot needs no keeper: the kernel is this process."""
    from zerostart_jupyter.snapshot.launch import command, environment

    ready = [] if given.ready is None else ["--ready", str(given.ready)]
    ready += ["--own-file"] if given.detach else []
    if given.ready is not None:
        os.set_inheritable(given.ready, True)
    file = str(given.connection_file.absolute())
    argv = command("portable.kernel", "--snapshot", given.snapshot, "-f", file, *ready)
    os.execve(sys.executable, argv, environment())


def _detach() -> None:
    if os.fork():
        os._exit(0)
    os.setsid()
    os.environ.pop("JPY_PARENT_PID", None)


if __name__ == "__main__":
    raise SystemExit(main())
