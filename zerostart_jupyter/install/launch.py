"""Running a script or a distribution's command in this interpreter, as Python itself would."""

from __future__ import annotations

import os
import re
import runpy
import sys
import types
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from zerostart_jupyter.core.errors import RequirementError, ZerostartError
from zerostart_jupyter.install.installation import Installation


def script(path: Path, words: Sequence[str]) -> int:
    """The exit status of a script, run as `__main__` with these arguments."""
    folder = str(path.resolve().parent)
    return _main(path.read_bytes(), str(path), words, folder, __file__=str(path))


def text(source: bytes, words: Sequence[str]) -> int:
    """The same for a script that came over standard input, as `python -` runs it."""
    return _main(source, "-", words, "")


def _main(source: bytes, name: str, words: Sequence[str], folder: str, **given: str) -> int:
    code = compile(source, given.get("__file__", "<stdin>"), "exec")
    # A module of its own that stays: threads, atexit functions and pickles refer to it.
    main = types.ModuleType("__main__")
    main.__dict__.update(__builtins__=__builtins__, __cached__=None, **given)
    sys.modules["__main__"] = main
    sys.argv = [name, *words]
    sys.path[0] = folder
    return status_of(lambda: exec(code, main.__dict__))


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


def status_of(work: Callable[[], Any]) -> int:
    """What the interpreter's exit status would be after this, with what it would print."""
    try:
        work()
    except SystemExit as leave:
        if leave.code is None or isinstance(leave.code, int):
            return leave.code or 0
        print(leave.code, file=sys.stderr)
        return 1
    except (ZerostartError, KeyboardInterrupt):
        raise
    except BaseException as error:
        ours = error.__traceback__
        frames = ours.tb_next.tb_next if ours and ours.tb_next else None
        import traceback

        traceback.print_exception(type(error), error, frames)
        return 1
    return 0
