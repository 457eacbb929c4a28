"""`make examples`: runs the notebooks of examples/ and keeps what they show.

    .venv/bin/python tools/run_examples.py [NAME.ipynb]...

Each starts from an empty cache, and its packages come from this machine's package index.
"""

from __future__ import annotations

import sys
from contextlib import suppress

import nbformat
import notebooks
from steps import VENV, Failed, main_guard, run, say, step, with_venv, workplace


def main() -> None:
    for name in sys.argv[1:] or notebooks.names():
        with workplace("example-") as folder, step(name):
            environ = with_venv(notebooks.private(folder))
            with suppress(Failed):
                run([VENV / "bin" / "zerostart", "setup", "criu"], environ=environ, quiet=True)
            made = notebooks.execute(name, folder, environ)
            notebooks.tidy(made, folder)
            for cell in made.cells:
                if cell.cell_type == "code":
                    say(notebooks.printed(cell).rstrip())
            (notebooks.EXAMPLES / name).write_text(nbformat.writes(made) + "\n")


if __name__ == "__main__":
    main_guard(main)
