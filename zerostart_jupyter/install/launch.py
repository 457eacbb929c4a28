"""The command that a distribution brings, run in this interpreter."""

from __future__ import annotations

import os
import re
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path

from zerostart_jupyter.core.errors import RequirementError
from zerostart_jupyter.install.installation import Installation
from zerostart_jupyter.install.running import status_of


def command(spec: str, words: Sequence[str], installation: Installation) -> int:
    """The exit status of the command that a distribution brings.

    That is its console script of its own name, its only one, or `python -m` of its own name.
    Raises RequirementError if it has none.
    """
    name = re.split(r"[\s\[<>=!~;@]", spec.strip(), maxsplit=1)[0]
    import importlib.metadata

    distribution = importlib.metadata.distribution(name)
    scripts = {
        point.name: point
        for point in distribution.entry_points
        if point.group in ("console_scripts", "gui_scripts")
    }
    point = scripts.get(name) or (next(iter(scripts.values())) if len(scripts) == 1 else None)
    sys.argv = [str(installation.bin / (point.name if point else name)), *words]
    if point is not None:
        entry = point
        return status_of(lambda: sys.exit(entry.load()()))
    if (program := _program(name, installation)) is not None:
        import subprocess

        return subprocess.run([str(program), *words], check=False).returncode
    module = name.replace("-", "_")
    found = importlib.util.find_spec(module)
    if (
        found
        and found.submodule_search_locations
        and importlib.util.find_spec(f"{module}.__main__")
    ):
        return status_of(lambda: runpy.run_module(module, run_name="__main__", alter_sys=True))
    raise RequirementError(
        f"{name} brings no command of its name; it has {', '.join(sorted(scripts)) or 'none'}.",
        remedy=f"Run a script with -p {name}.",
    )


def _program(name: str, installation: Installation) -> Path | None:
    path = installation.bin / name
    return path if os.access(path, os.X_OK) else None
