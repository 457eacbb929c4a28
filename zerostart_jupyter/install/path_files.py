"""The `.pth` files of an environment, as Python reads those of its site-packages when it starts.

An environment is not among the interpreter's own site directories, so that nobody else reads
them. This is also a file of each environment (`children` puts it there) and stands alone, as
`inherited` does. See https://docs.python.org/3/library/site.html.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

_run: dict[tuple[str, str], object] = {}  # import lines, by file


def take(sitedir: str, whole: bool) -> None:
    """Add the directories that they name and that are there; with `whole`, run their import lines.

    Lines run once in a process, when all that they may import is there. One that fails is told on
    stderr and ends its file, as at the start of Python. `sitedir` has its name from there: lines
    that setuptools writes look for it in whoever runs them.
    """
    for file in _files(sitedir):
        for line in _lines(file):
            if not line.startswith(("import ", "import\t")):
                path = os.path.abspath(os.path.join(sitedir, line.rstrip()))
                if os.path.exists(path) and path not in sys.path:
                    sys.path.append(path)
                continue
            mine = object()
            if not whole or _run.setdefault((file, line), mine) is not mine:
                continue
            try:
                exec(line)
            except Exception:
                import traceback

                traceback.print_exc()
                print(f"{file}: the rest of it is left out", file=sys.stderr)
                break


def _files(folder: str) -> list[str]:
    try:
        with os.scandir(folder) as entries:
            found = [each.path for each in entries if each.name.endswith(".pth")]
    except OSError:
        return []
    return sorted(file for file in found if not os.path.basename(file).startswith("."))


def _lines(file: str) -> Iterator[str]:
    try:
        with open(file, encoding="utf-8-sig") as opened:
            text = opened.read()
    except (OSError, ValueError):
        return
    for line in text.splitlines():
        if line.strip() and not line.startswith("#"):
            yield line
