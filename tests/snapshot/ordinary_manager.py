"""A KernelManager in a process of its own: run as a program, it obeys a JSON array a line."""

from __future__ import annotations

import json
import sys

from jupyter_client.manager import KernelManager


def main() -> None:
    """Start a kernel, do what is asked, and shut it down when nobody asks any more."""
    manager = KernelManager(kernel_name=sys.argv[1])
    manager.start_kernel(stdout=sys.stderr.fileno(), stderr=sys.stderr.fileno())
    answer(manager.connection_file)
    try:
        for line in sys.stdin:
            method, options = json.loads(line)
            if method == "pid":
                answer(manager.provisioner.pid)
            elif method == "wait":
                answer(manager.provisioner.process.wait(60))
            else:
                answer(getattr(manager, method)(**options))
    finally:
        manager.shutdown_kernel(now=True)


def answer(what: object) -> None:
    print(json.dumps(what), flush=True)


if __name__ == "__main__":
    main()
