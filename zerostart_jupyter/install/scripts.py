"""Programs as they stand in `bin`: what begins them, and what an entry point becomes.

Byte for byte what the `installer` library writes, which takes long to import for it: it carries the
launchers of another system.
"""

from __future__ import annotations

import shlex

from zerostart_jupyter.install.entry_points import Program

_LONGEST = 127  # bytes of a first line that every kernel reads
_PROGRAM = """\
# -*- coding: utf-8 -*-
import re
import sys
from {module} import {name}
if __name__ == "__main__":
    sys.argv[0] = re.sub(r"(-script\\.pyw|\\.exe)?$", "", sys.argv[0])
    sys.exit({attribute}())
"""


def shebang(python: str) -> bytes:
    """The lines that have a script run by this interpreter."""
    plain = f"#!{python}\n".encode()
    if " " not in python and len(plain) <= _LONGEST:
        return plain
    # To the shell a command, to Python a text that is thrown away.
    return f"#!/bin/sh\n'''exec' {shlex.quote(python)} \"$0\" \"$@\"\n' '''\n".encode()


def program(point: Program, python: str) -> bytes:
    """The script of an entry point."""
    text = _PROGRAM.format(
        module=point.module, name=point.attribute.partition(".")[0], attribute=point.attribute
    )
    return shebang(python) + text.encode()
