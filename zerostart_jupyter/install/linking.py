"""Many files get a second path each: the plain case, and nothing else.

This file is also a program, which `linker` starts: each of its files is several calls of the
system, and they need no turn in the other's Python. So it imports next to nothing.
"""

from __future__ import annotations

import marshal
import os
import sys

Files = list[tuple[str, str]]
Identities = list[tuple[int, int]]


def link(files: Files, identities: Identities | None) -> int:
    """Link each file to its path, whose directories are made, if the file has this size and this
    time of change in nanoseconds.

    Returns how many were linked, from the first on: before whatever is not as it should be it
    stops, and nothing of that one is done.
    """
    made: set[str] = set()
    done = 0
    try:
        for source, path in files:
            if identities is not None:
                status = os.stat(source)
                if (status.st_size, status.st_mtime_ns) != identities[done]:
                    break
            folder = path.rpartition("/")[0]
            if folder not in made:
                os.makedirs(folder, exist_ok=True)
                made.add(folder)
            os.link(source, path)
            done += 1
    except OSError:
        pass
    return done


def main() -> None:
    """Link what comes on standard input, and answer each with how many."""
    out = os.dup(1)
    os.dup2(2, 1)
    while True:
        try:
            given = marshal.load(sys.stdin.buffer)
        except (EOFError, ValueError, TypeError):
            return
        os.write(out, marshal.dumps(link(*given)))


if __name__ == "__main__":
    main()
